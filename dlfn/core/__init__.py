from pathlib import Path

from jax.extend import source_info_util

from dlfn.core.backpropagation import backprop, backprop_value_and_grad, backprop_vjp
from dlfn.core.custom_vjp import from_vjp
from dlfn.core.errors import GradientError, InputError
from dlfn.core.op import Op
from dlfn.core.rules import register_rule
from dlfn.core.stripping import autodiff

__all__ = [
    "GradientError",
    "InputError",
    "Op",
    "autodiff",
    "backprop",
    "backprop_value_and_grad",
    "backprop_vjp",
    "from_vjp",
    "register_rule",
]

# Where an error names a source line it should be the user's, not one in here.
source_info_util.register_exclusion(str(Path(__file__).parent))
