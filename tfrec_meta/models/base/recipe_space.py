"""The part of the search space that families trained by steps share: the training recipe."""

from __future__ import annotations

from typing import Any


def recipe_space(hp: Any) -> dict[str, Any]:
    """Declares the searched fields of `TrainingConfig`, with its defaults."""
    with hp.name_scope("training"):
        return {
            "learning_rate": hp.Float("learning_rate", 0.0005, 0.05, sampling="log", default=0.005),
            "weight_decay": hp.Float("weight_decay", 0.001, 1.0, sampling="log", default=0.1),
            "batch_size": hp.Choice("batch_size", [256, 512, 1024, 2048], default=512),
            "history_length": hp.Choice("history_length", [50, 100, 200], default=100),
            "history_dropout": hp.Float("history_dropout", 0.0, 0.5, step=0.1, default=0.0),
            "user_dropout": hp.Float("user_dropout", 0.0, 0.5, step=0.1, default=0.1),
            "user_balance": hp.Float("user_balance", 0.0, 1.0, step=0.25, default=0.5),
        }
