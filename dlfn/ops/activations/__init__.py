"""Activations, of one array (files smooth, exponential_units, piecewise) and of a value and its gate (gated).

kernels has the formulas of the smooth ones and of their derivatives, and _builder makes an op of two formulas.
"""
