"""k-shot curves: how good recommendations for newcomers are after so many events, and by what."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec_meta.data import Interactions, Split
from tfrec_meta.evaluation import METRICS, Evaluation
from tfrec_meta.metalearning.cold_users import (
    ColdUsers,
    Score,
    adapted,
    by_history,
    fine_tuned,
    without_support,
)
from tfrec_meta.metalearning.shot_curves import Reference, ShotCurves
from tfrec_meta.models import (
    EASE,
    IALS,
    EASEConfig,
    IALSConfig,
    ItemKNN,
    ItemKNNConfig,
    MetaLearned,
    Popularity,
    PopularityConfig,
    Recommender,
)
from tfrec_meta.reports.cold_start_page import write_cold_start_page
from tfrec_meta.training import seed_everything

SHOTS = (0, 1, 3, 5, 10, 20)
BASELINES: Mapping[str, tuple[type[Recommender], Sequence[Any]]] = {
    "ials": (
        IALS,
        [
            IALSConfig(32, iterations=8),
            *(
                IALSConfig(32, l2, unseen, iterations=8)
                for l2 in (30, 100, 300)
                for unseen in (0.3, 1)
            ),
        ],
    ),
    "ease": (EASE, [EASEConfig(), *(EASEConfig(10.0**power) for power in (2, 3, 4, 5, 6))]),
    "item_knn": (
        ItemKNN,
        [
            ItemKNNConfig(),
            ItemKNNConfig(k1=1.2, b=0.0),
            *(ItemKNNConfig(500, "cosine", shrinkage=shrinkage) for shrinkage in (10.0, 100.0)),
        ],
    ),
    "popularity": (Popularity, [PopularityConfig()]),
}
"""Families that take a newcomer in by what was touched, and settings to choose from; the first is
taken where there is nothing to choose by."""
_FINE_TUNING = [
    (4, 0.4),
    *((steps, rate) for steps in (1, 2, 4, 8) for rate in (0.1, 0.2, 0.8, 1.6)),
]
_LARGE_CATALOGUE = 20_000  # items: EASE inverts a matrix of this width
_log = logging.getLogger(__name__)


class ColdStartReport(ShotCurves):
    """k-shot curves that can be written as an HTML page."""

    def write(self, path: Path | str, title: str = "Cold users") -> Path:
        """Writes the HTML page, whole or not at all.

        Returns:
            The path.
        """
        return write_cold_start_page(
            path,
            title,
            self.evaluations,
            self.metric,
            [self.conclusion(shots) for shots in self.shots],
            protocol=self.protocol,
            left_out=self.left_out,
            settings=self.settings,
            tuned=self.tuned,
        )


def evaluate_cold_start(
    model: Recommender,
    split: Split,
    *,
    shots: Sequence[int] = SHOTS,
    k: int = 10,
    metric: str = "ndcg",
    baselines: Sequence[str] | None = None,
    later: int = 10,
    resamples: int = 1000,
    seed: int = 42,
) -> ColdStartReport:
    """Judges a model on users held out whole, by how many of their events it is given.

    Of each test user with enough events (the others are counted) the first ones are the support
    set; what follows the most `shots` is to be found in the whole catalogue without these first
    ones, at every number of events. Beside the model: the model without support, plain fine-tuning
    of a vector of the user (of "meta_learned"), and families that take newcomers in, fitted on the
    same train part. Their settings are chosen on the split's validation users, for each number of
    events by itself, so that a baseline may be several models where ours is one.

    Args:
        model: fitted on `split.train`; one that adapts, or reads histories.
        split: of `split_cold_users`, best with a validation part.
        shots: numbers of events.
        k: length of the lists.
        metric: one of `tfrec_meta.evaluation.METRICS` that each user has a value of.
        baselines: of "ials" (fold-in), "ease" (on the support set), "item_knn" and "popularity"; by
            default all, without ease where the catalogue's square wouldn't fit into memory.
        later: events beyond the most `shots` that a user needs to be asked about.
        resamples: bootstrap draws of users for the intervals.
        seed: of the baselines.

    Raises:
        ValueError: if test users are known to the train part, none has enough events, or `shots`,
            `metric` or `baselines` make no sense.
    """
    wanted = sorted(set(shots))
    if not wanted or wanted[0] < 0 or wanted[-1] < 1:
        raise ValueError(f"`shots`={tuple(shots)}; give numbers of events from 0, one above it.")
    if metric not in METRICS or metric in ("coverage", "popularity_lift"):
        raise ValueError(f"`metric`={metric!r} has no value for each user; use 'ndcg' or 'recall'.")
    if baselines is None:
        baselines = _possible(model.spec.catalogue_size)
    for name in baselines:
        if name not in BASELINES:
            raise ValueError(f"No baseline {name!r}; there are {', '.join(BASELINES)}.")
    known = np.intersect1d(split.test.user_ids.astype(str), split.past.user_ids.astype(str))
    if len(known):
        raise ValueError(
            f"{len(known):,} of the test users have events in the train or validation part, and "
            f"are no newcomers ({split.description}). Use `split_cold_users`."
        )
    first = wanted[-1]
    test = ColdUsers(split.test, model.spec, first, later)
    judges = _judges(split.validation, model, first, later)
    k = min(k, model.spec.catalogue_size)
    label = metric if metric == "auc" else f"{metric}@{k}"
    ours = adapted(model)
    methods: dict[str, Iterable[tuple[str, Score]]] = {
        model.family: [("", ours)],
        Reference.NO_ADAPTATION: [("", without_support(ours))],
    }
    if isinstance(model, MetaLearned):
        methods[Reference.FINE_TUNING] = _fine_tunings(model)
    for name in baselines:
        own = name if name not in methods else f"{name} (baseline)"
        methods[own] = _fitted(name, split.train, model, seed)
    evaluations: dict[str, dict[int, Evaluation]] = {}
    settings: dict[str, dict[int, str]] = {}
    for name, candidates in methods.items():
        best: dict[int, float] = {}
        evaluations[name], settings[name] = {}, {}
        for text, score in candidates:
            for n in wanted:
                value = 0.0 if judges is None else judges.evaluate(score, n, k, metric)[label].value
                if n not in best or value > best[n]:  # what is not chosen is not asked about
                    best[n], settings[name][n] = value, text
                    evaluations[name][n] = test.evaluate(score, n, k, metric, resamples)
            if judges is None:
                break
    return ColdStartReport(
        evaluations,
        label,
        {name: texts for name, texts in settings.items() if any(texts.values())},
        judges is not None,
        split.description,
        test.left_out,
    )


def _judges(
    validation: Interactions, model: Recommender, first: int, later: int
) -> ColdUsers | None:
    """Whom settings are chosen by; None without anyone of enough events."""
    if not len(validation):
        return None
    try:
        return ColdUsers(validation, model.spec, first, later)
    except ValueError as error:
        _log.warning("Baselines have their usual settings. Of the validation part: %s", error)
        return None


def _possible(catalogue_size: int) -> list[str]:
    if catalogue_size <= _LARGE_CATALOGUE:
        return list(BASELINES)
    _log.warning(
        "ease is left out: the catalogue has %s items, too many for its matrix. "
        "Name it in `baselines` to try all the same.",
        f"{catalogue_size:,}",
    )
    return [name for name in BASELINES if name != "ease"]


def _fine_tunings(model: MetaLearned) -> Iterator[tuple[str, Score]]:
    for steps, rate in _FINE_TUNING:
        yield f"{steps} steps of {rate:g}", fine_tuned(model, steps, rate)


def _fitted(
    name: str, train: Interactions, model: Recommender, seed: int
) -> Iterator[tuple[str, Score]]:
    """A baseline with each of its settings in words, fitted when it is asked for."""
    family, configs = BASELINES[name]
    fields = [dataclasses.asdict(config) for config in configs]
    telling = [key for key in fields[0] if len({record[key] for record in fields}) > 1]
    for config, record in zip(configs, fields, strict=True):
        seed_everything(seed)
        baseline: Any = family
        one = baseline(config, model.spec)
        one.fit(train)
        yield ", ".join(f"{key}={record[key]}" for key in telling), by_history(one)
