"""Trains models: the recipe, the loop, validation, optimizers and distribution."""

from tfrec_meta.training.fitting import (
    OBJECTIVE,
    Curve,
    OnEpoch,
    OptimizerName,
    TrainingConfig,
    Validation,
    digest_of_events,
    fit,
    goodness,
    seed_everything,
    train,
    write_whole,
)

__all__ = [
    "OBJECTIVE",
    "Curve",
    "OnEpoch",
    "OptimizerName",
    "TrainingConfig",
    "Validation",
    "digest_of_events",
    "fit",
    "goodness",
    "seed_everything",
    "train",
    "write_whole",
]
