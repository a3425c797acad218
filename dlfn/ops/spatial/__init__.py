"""Convolution and pooling over axes of space; windows has the arithmetic of their windows."""
