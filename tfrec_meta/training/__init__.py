"""Trains models: the recipe, the loop, validation, optimizers and distribution."""

from tfrec_meta.training.fitting import (
    Curve,
    OnEpoch,
    OptimizerName,
    TrainingConfig,
    Validation,
    digest_of_events,
    fit,
    seed_everything,
    train,
    write_whole,
)

__all__ = [
    "Curve",
    "OnEpoch",
    "OptimizerName",
    "TrainingConfig",
    "Validation",
    "digest_of_events",
    "fit",
    "seed_everything",
    "train",
    "write_whole",
]
