"""Activations of one array (in the files smooth, exponential_units and piecewise) and of a value and its gate (gated).

The file kernels has the formulas of the smooth ones and of their derivatives. _builder makes an op from two such
formulas.
"""
