from dlfn.core.op import Op

__all__ = ["Op"]
