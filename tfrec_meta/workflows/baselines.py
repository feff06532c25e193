"""The registry of baselines: strategies that evaluations compare a model with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.logs import logger
from tfrec_meta.models import EASEConfig, IALSConfig, ItemKNNConfig, Recommender
from tfrec_meta.strategy import Strategy
from tfrec_meta.workflows.train import train

BASELINES: Mapping[str, Strategy] = {
    name: Strategy(name) for name in ("popularity", "item_knn", "ease", "ials")
}
"""Baselines by name, each with the default settings of its family. They are solved in closed form
and recommend to any user by the items of the user's history, so they also serve new users."""

BASELINE_CONFIGS: Mapping[str, Sequence[Any]] = {
    "item_knn": [
        ItemKNNConfig(),
        ItemKNNConfig(100),
        ItemKNNConfig(k1=1.2, b=0.75),
        *(ItemKNNConfig(n, "cosine", shrinkage=s) for n, s in ((50, 10.0), (500, 100.0))),
    ],
    "ease": [EASEConfig(l2) for l2 in (400.0, 50.0, 150.0, 1000.0, 3000.0)],
    "ials": [
        IALSConfig(),
        IALSConfig(64, 30.0, 0.3, iterations=8),
        *(
            IALSConfig(32, l2, unseen, iterations=8)
            for l2, unseen in ((10.0, 0.3), (30.0, 0.1), (30.0, 1.0), (100.0, 0.3))
        ),
    ],
}
"""Model configs among which `evaluate` chooses each baseline's on validation, the default first."""

COLD_USER_CONFIGS: Mapping[str, Sequence[Any]] = {
    "item_knn": [
        ItemKNNConfig(),
        ItemKNNConfig(k1=1.2, b=0.0),
        *(ItemKNNConfig(500, "cosine", shrinkage=shrinkage) for shrinkage in (10.0, 100.0)),
    ],
    "ease": [EASEConfig(), *(EASEConfig(10.0**power) for power in (2, 3, 4, 5, 6))],
    "ials": [
        IALSConfig(32, iterations=8),
        *(IALSConfig(32, l2, unseen, iterations=8) for l2 in (30, 100, 300) for unseen in (0.3, 1)),
    ],
}
"""Model configs among which `evaluate_cold_start` chooses on validation users. Short histories need
other settings than long ones."""

_LARGE_CATALOGUE = 20_000  # items; EASE inverts a dense matrix of this width
_log = logger(__name__)


def default_baselines(catalogue_size: int) -> list[str]:
    """Returns the baselines that fit into memory, and logs which one is left out and why.

    Args:
        catalogue_size: number of items.
    """
    if catalogue_size <= _LARGE_CATALOGUE:
        return list(BASELINES)
    _log.warning(
        "The baseline ease is left out, because its matrix of %s x %s items may not fit into "
        "memory. To include it, name it in `baselines`.",
        f"{catalogue_size:,}",
        f"{catalogue_size:,}",
    )
    return [name for name in BASELINES if name != "ease"]


def fit_baseline(
    strategy: Strategy, data: Interactions, spec: FeatureSpec, seed: int | None = None
) -> Recommender:
    """Trains a baseline with the catalogue of a fitted spec.

    Args:
        strategy: of a family that is solved in closed form.
        data: training events.
        spec: the fitted spec of the model that the baseline is compared with.
        seed: random seed; by default the strategy's.
    """
    if seed is not None:
        recipe = dataclasses.replace(strategy.training, seed=seed)
        strategy = dataclasses.replace(strategy, training=recipe)
    return train(data, strategy, features=spec, progress=False)


def scores_by_items(
    model: Recommender, items: scipy.sparse.csr_matrix
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a score function for users who are described by the items of their history alone.

    The whole history is used, also where it is longer than the spec's `history_length`. The order
    of the items is not kept, so the function suits families that ignore it.

    Args:
        model: a fitted model.
        items: [users, catalogue], non-zero where a user has an item.

    Returns:
        A function rows int64 [b] -> float32 [b, catalogue].
    """
    width = max(1, int(np.diff(items.indptr).max(initial=0)))
    empty = model.spec.encode_queries([""])

    def score(rows: np.ndarray) -> np.ndarray:
        queries = {name: np.repeat(value, len(rows), axis=0) for name, value in empty.items()}
        part = items[rows]
        counts = np.diff(part.indptr)
        history = np.zeros((len(rows), width), np.int32)
        history[np.arange(width) < counts[:, None]] = part.indices + 1  # row 0 is the unknown item
        return model.score({**queries, "history": history})

    return score
