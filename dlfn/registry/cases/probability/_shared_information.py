"""What the cases of information and joint_tables share."""

import numpy as np

__all__ = ["joint_table", "per_nat"]


def joint_table(lead):
    return (lambda rng: rng.dirichlet(np.ones(12), size=lead).reshape(*lead, 3, 4),)


def per_nat(base):
    return 1.0 if base is None else 1 / np.log(base)
