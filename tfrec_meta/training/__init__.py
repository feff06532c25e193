"""Trains models: the recipe, the loop, validation, optimizers and distribution."""

from tfrec_meta.training.config import TrainingConfig
from tfrec_meta.training.loop import fit, seed_everything
from tfrec_meta.training.optimizers import LazyAdagrad, LazyAdam, LazyAdamW, RowWiseAdagrad
from tfrec_meta.training.options import Curve, OnEpoch, TrainingOptions
from tfrec_meta.training.validation import Validation

__all__ = [
    "Curve",
    "LazyAdagrad",
    "LazyAdam",
    "LazyAdamW",
    "OnEpoch",
    "RowWiseAdagrad",
    "TrainingConfig",
    "TrainingOptions",
    "Validation",
    "fit",
    "seed_everything",
]
