"""Functions with a form for each platform, for ops."""

from collections.abc import Callable
from typing import Any

from dlfn.core import platforms
from dlfn.ops.support.op import as_library

__all__ = ["ByPlatform"]


class ByPlatform(platforms.ByPlatform):
    """:class:`dlfn.core.platforms.ByPlatform` whose forms do not depend on the user's settings of JAX, as the rules of
    ops do not: they are traced once more when a program is lowered, which is outside of the rules."""

    def __init__(self, default: Callable[..., Any], **forms: Any):
        super().__init__(as_library(default), **{name: form and as_library(form) for name, form in forms.items()})
