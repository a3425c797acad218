from dlfn.core import Op

__all__ = ["Op"]
