"""What the ops of two rooms or more need, and other parts of the library may use.

arguments checks what an op is given; dtypes, shapes and sharding say what it computes in; compiled, exponential, limits
and scaled are arithmetic that keeps its digits and its limits.
"""
