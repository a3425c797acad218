from dlfn.core import InputError, Op

__all__ = ["InputError", "Op"]
