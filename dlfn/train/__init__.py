"""Training: :func:`fit` for any model and any data, and runs from a configuration. Importing this costs optax and the
layers; ``import dlfn`` does not import it."""

from dlfn.train import data, tasks
from dlfn.train.config import Config
from dlfn.train.config import load as load_config
from dlfn.train.diagnosis import TrainingError
from dlfn.train.engine import Result, fit
from dlfn.train.exporting import export
from dlfn.train.parts import train
from dlfn.train.placement import Placement
from dlfn.train.plan import Plan
from dlfn.train.predicting import predict
from dlfn.train.reporting import report
from dlfn.train.runs import Loaded, evaluate, load

__all__ = [
    "Config",
    "Loaded",
    "Placement",
    "Plan",
    "Result",
    "TrainingError",
    "data",
    "evaluate",
    "export",
    "fit",
    "load",
    "load_config",
    "predict",
    "report",
    "tasks",
    "train",
]
