"""The optimizer of a recipe, and its learning rate schedule."""

from __future__ import annotations

import tensorflow as tf

from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training.config import TrainingConfig
from tfrec_meta.training.optimizers import LazyAdagrad, LazyAdam, LazyAdamW, RowWiseAdagrad

# "auto" chooses a lazy optimizer for tables of this many rows. A step of the default two-tower
# model (dimension 32, batch size 512) with 10,000, 100,000 and 1,000,000 items took 19, 46 and
# 314 ms with AdamW, and 16, 17 and 23 ms with LazyAdamW.
_LARGE_TABLE = 100_000


def optimizer_name(config: TrainingConfig, model: TrainableRecommender) -> str:
    """Returns the name of the optimizer that a recipe has for a model; that of "auto", too."""
    if config.optimizer != "auto":
        return config.optimizer
    large = any(table.shape[0] >= _LARGE_TABLE for table in _tables(model))
    return "lazy_adamw" if large and not config.average_decay else "adamw"


def make_optimizer(
    config: TrainingConfig, steps: int, model: TrainableRecommender
) -> tf_keras.optimizers.Optimizer:
    """Makes the optimizer of a recipe.

    Args:
        config: the recipe.
        steps: steps of the whole training, for the learning rate schedule.
        model: the model, whose embedding tables "auto" and "row_wise_adagrad" look up.
    """
    rate = learning_rate_schedule(config.learning_rate, steps)
    name = optimizer_name(config, model)
    if name == "lazy_adam":
        return LazyAdam(rate)
    if name == "lazy_adagrad":
        return LazyAdagrad(rate)
    if name == "row_wise_adagrad":
        return RowWiseAdagrad(rate, tables=[table.name for table in _tables(model)])
    if name == "lazy_adamw":
        optimizer = LazyAdamW(rate, config.weight_decay)
    else:
        average = {
            "use_ema": config.average_decay > 0,
            "ema_momentum": config.average_decay,
            "ema_overwrite_frequency": None,
        }
        if name == "adagrad":
            return tf_keras.optimizers.Adagrad(rate, **average)
        optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **average)
    # Decay would pull the popularity of an item out of its bias, and make task weights equal.
    optimizer.exclude_from_weight_decay(var_names=["item_bias", "task_weights"])
    return optimizer


def _tables(model: TrainableRecommender) -> list[tf.Variable]:
    """The embedding tables."""
    return [table for table, _ in model.rows_of_tokens().values() if table.shape.rank == 2]


def learning_rate_schedule(
    peak: float, steps: int
) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    """Returns a schedule that rises to `peak` over 5% of the steps, then falls to 0 as a cosine."""
    rise = steps // 20
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=peak, warmup_steps=rise
    )
