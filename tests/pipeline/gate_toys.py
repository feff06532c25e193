"""Users of four tastes: a model that learns them is far above popularity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

import tfrec_meta as tm
from tfrec_meta.data import Interactions, Split
from tfrec_meta.models import IALSConfig, Recommender
from tfrec_meta.pipeline.config import EvaluatorConfig

TASTES, ITEMS_OF_A_TASTE, USERS = 4, 12, 160
CONFIG = EvaluatorConfig(k=5, new_user_events=2, slices=("taste",), positive=4.0)
STRATEGY = tm.Strategy("ials", IALSConfig(embedding_dim=8, l2=1.0, unseen_weight=0.1))


def tastes_split(seed: int = 0) -> Split:
    """Returns users with 8 of the 12 items of their taste, 2 of which are the test.

    Users 0 to 39 are new: they have 2 events before the test. Some items of each taste are more
    popular than others, so that popularity is better than chance.
    """
    rng = np.random.default_rng(seed)
    chance = 0.8 ** np.arange(ITEMS_OF_A_TASTE)
    events: list[tuple[str, str, int, float]] = []
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for user in range(USERS):
        chosen = rng.choice(ITEMS_OF_A_TASTE, 8, replace=False, p=chance / chance.sum())
        items = user % TASTES + TASTES * chosen
        known = 2 if user < 40 else 6
        for place, item in enumerate([*items[:known], *items[6:]]):
            name = "test" if place >= known else "validation" if place == known - 1 else "train"
            parts[name].append(len(events))
            events.append((f"u{user}", f"i{item}", 1000 * place + user, 1.0 + item % 5))
    users = pa.table(
        {
            "user_id": [f"u{user}" for user in range(USERS)],
            "taste": [f"t{user % TASTES}" for user in range(USERS)],
            "age": [20 + user for user in range(USERS)],
        }
    )
    items = pa.table(
        {
            "item_id": [f"i{item}" for item in range(TASTES * ITEMS_OF_A_TASTE)],
            "title": [f"Item {item}" for item in range(TASTES * ITEMS_OF_A_TASTE)],
        }
    )
    data = Interactions.from_arrays(*zip(*events, strict=True), users=users, items=items)
    return Split(data, *map(np.array, parts.values()))


def trained(split: Split) -> Recommender:
    """Returns a model that learned the tastes."""
    return tm.train(split.train, STRATEGY, progress=False)


def degraded(folder: Path) -> Recommender:
    """Returns a saved model with the embeddings of its items shuffled."""
    return with_shuffled_items(tm.load(folder))


def with_shuffled_items(model: Recommender, seed: int = 0) -> Recommender:
    """Shuffles the item embeddings of a model, and returns it."""
    factors = model.item_factors.numpy()
    factors[1:] = np.random.default_rng(seed).permutation(factors[1:])
    model.item_factors.assign(factors)
    return model
