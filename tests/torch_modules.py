"""Modules of PyTorch with weights to import, and comparisons with them."""

import numpy as np

__all__ = ["close", "same", "state_dict"]


def state_dict(module):
    """A float64 module with random weights, so that no bias is 0, and its arrays."""
    module = module.double()
    for parameter in module.parameters():
        parameter.detach().normal_()
    return module, module.state_dict()


def close(ours, theirs):
    theirs = np.asarray(theirs.detach())
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * np.linalg.norm(theirs))


def same(exported, arrays):
    assert exported.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(exported[name], np.asarray(array), err_msg=name)
