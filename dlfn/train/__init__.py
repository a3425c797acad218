"""Training from a configuration. Importing this costs optax; ``import dlfn`` does not import it."""

from dlfn.train.config import Config, load
from dlfn.train.loop import Trained, TrainingError, train

__all__ = ["Config", "Trained", "TrainingError", "load", "train"]
