"""What the cases of log_densities, log_masses and poisson share."""

__all__ = ["rows_of"]


def rows_of(*arguments):
    """The terms of the gradient of a parameter that all rows share."""
    return arguments[0].size // 5
