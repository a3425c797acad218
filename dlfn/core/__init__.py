from dlfn.core.errors import InputError
from dlfn.core.op import Op

__all__ = ["InputError", "Op"]
