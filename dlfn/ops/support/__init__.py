"""What two or more of the folders of ops need, and other parts of the library may use too.

The file op has the class that all ops are made of, and arguments the checks of what they are given. dtypes, shapes and
sharding convert arrays, and lengths is about padded sequences. compiled, exponential, limits and scaled are arithmetic
that keeps its digits and has its limits.
"""
