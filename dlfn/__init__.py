from dlfn.core import InputError, Op, autodiff, backprop, backprop_value_and_grad, backprop_vjp, register_rule

__all__ = ["InputError", "Op", "autodiff", "backprop", "backprop_value_and_grad", "backprop_vjp", "register_rule"]
