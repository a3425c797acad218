from dlfn.core.autodiff import autodiff
from dlfn.core.backprop import backprop, backprop_value_and_grad, backprop_vjp
from dlfn.core.errors import InputError
from dlfn.core.op import Op
from dlfn.core.rules import register_rule

__all__ = ["InputError", "Op", "autodiff", "backprop", "backprop_value_and_grad", "backprop_vjp", "register_rule"]
