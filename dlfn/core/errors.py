"""The exceptions: one for bad input, one for gradients that do not agree."""

__all__ = ["GradientError", "InputError"]


class InputError(TypeError, ValueError):
    """Bad input. The message names the argument, what it was, what it must be and the likely fix.

    Whether a wrong shape is a TypeError or a ValueError is a matter of taste; this is both. The command line prints it
    as one line and exits with 2.
    """


class GradientError(AssertionError):
    """Gradients that do not agree. The message is the table of the check that found it."""
