"""Evaluates a model on cold users, by how many of their events it is given (k-shot curves)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec_meta.checks import check
from tfrec_meta.data import Interactions, Split
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import METRICS, Evaluation
from tfrec_meta.evaluation.intervals import RESAMPLES
from tfrec_meta.io.logs import logger
from tfrec_meta.metalearning.cold_users import (
    ColdUsers,
    SupportScores,
    adapted_scores,
    history_scores,
    without_support,
)
from tfrec_meta.metalearning.outer_loops import OUTER_LOOPS
from tfrec_meta.metalearning.shot_curves import Reference, ShotCurves
from tfrec_meta.models import Recommender
from tfrec_meta.reports.cold_start_page import write_cold_start_page
from tfrec_meta.workflows.baselines import (
    BASELINES,
    COLD_USER_CONFIGS,
    default_baselines,
    fit_baseline,
)
from tfrec_meta.workflows.configs.evaluation_settings import check_baselines

SHOTS = (0, 1, 3, 5, 10, 20)
_FINE_TUNING = [  # steps and learning rate; the first is the default
    (4, 0.4),
    *((steps, rate) for steps in (1, 2, 4, 8) for rate in (0.1, 0.2, 0.8, 1.6)),
]
_log = logger(__name__)


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
    """Evaluates a model on users held out with all their events, by number of events given to it.

    The first events of each test user are the support set. The events after the largest number in
    `shots` are relevant, whatever the size of the support set, and the whole catalogue is ranked
    without the user's first items. So a curve shows the effect of the support set alone. Test users
    with too few events are left out and counted.

    The model is compared with itself without support; with plain fine-tuning of a user vector
    ("meta_learned" only); and with baselines fitted on the same train part. The settings of
    fine-tuning and baselines are chosen on the split's validation users, separately for each number
    of events, so that a baseline may consist of several models.

    Args:
        model: a model fitted on `split.train` that adapts to support sets or reads histories.
        split: from `split_cold_users`, preferably with a validation part.
        shots: numbers of events.
        k: length of the lists.
        metric: a metric of `tfrec_meta.evaluation.METRICS` that has a value for each user.
        baselines: names of `tfrec_meta.workflows.baselines.BASELINES`: "popularity", "item_knn",
            "ease", "ials". By default all, without EASE for catalogues of more than 20,000 items.
        later: how many items a user needs beyond the largest of `shots`.
        resamples: bootstrap draws of users for the intervals.
        seed: random seed of the baselines.

    Raises:
        ValueError: if test users have events in the train part, no test user has enough events, or
            `shots`, `metric` or `baselines` are invalid.
    """
    shots = _checked_shots(shots)
    _check_metric(metric)
    check("resamples", resamples, RESAMPLES)
    if baselines is not None:
        check_baselines(baselines)
    known = np.intersect1d(split.test.user_ids.astype(str), split.past.user_ids.astype(str))
    if len(known):
        raise ParameterError(
            f"`split` has {len(known):,} test users with events in the train or validation part "
            f"({split.description}), so they are not cold users. Use `split_cold_users`.",
            "split",
        )
    test = ColdUsers(split.test, model.spec, shots[-1], later)
    validation = _validation_users(split.validation, model, shots[-1], later)
    k = min(k, model.spec.catalogue_size)
    label = metric if metric == "auc" else f"{metric}@{k}"
    score = adapted_scores(model)
    methods: dict[str, Iterable[tuple[str, SupportScores]]] = {
        model.family: [("", score)],
        Reference.NO_ADAPTATION: [("", without_support(score))],
    }
    outer_loop = OUTER_LOOPS.get(model.family)
    if outer_loop is not None and outer_loop.fine_tuned_scores is not None:
        methods[Reference.FINE_TUNING] = (
            (f"{steps} steps of {rate:g}", outer_loop.fine_tuned_scores(model, steps, rate))
            for steps, rate in _FINE_TUNING
        )
    names = default_baselines(model.spec.catalogue_size) if baselines is None else baselines
    for name in names:
        key = name if name not in methods else f"{name} (baseline)"
        tuned = validation is not None
        methods[key] = _baseline_settings(name, split.train, model, seed, tuned)
    evaluations: dict[str, dict[int, Evaluation]] = {}
    settings: dict[str, dict[int, str]] = {}
    for name, candidates in methods.items():
        best: dict[int, float] = {}
        evaluations[name], settings[name] = {}, {}
        for text, score in candidates:
            for n in shots:
                value = 0.0
                if validation is not None:
                    value = validation.evaluate(score, n, k, metric)[label].value
                if n not in best or value > best[n]:  # only the best is evaluated on test users
                    best[n], settings[name][n] = value, text
                    evaluations[name][n] = test.evaluate(score, n, k, metric, resamples)
            if validation is None:
                break
    return ColdStartReport(
        evaluations,
        label,
        {name: texts for name, texts in settings.items() if any(texts.values())},
        validation is not None,
        split.description,
        test.left_out,
    )


def _checked_shots(shots: Sequence[int]) -> list[int]:
    """Returns the numbers of events in rising order."""
    ordered = sorted(set(shots))
    if not ordered or ordered[0] < 0 or ordered[-1] < 1:
        raise ParameterError(
            f"`shots`={tuple(shots)}; use numbers of 0 or more, at least one of them above 0.",
            "shots",
        )
    return ordered


def _check_metric(metric: str) -> None:
    if metric not in METRICS or metric in ("coverage", "popularity_lift"):
        raise ParameterError(
            f"`metric`={metric!r} has no value for each user; use 'ndcg' or 'recall'.", "metric"
        )


def _validation_users(
    validation: Interactions, model: Recommender, first: int, later: int
) -> ColdUsers | None:
    """Returns the users on whom settings are chosen; None if no user has enough events."""
    if not len(validation):
        return None
    try:
        return ColdUsers(validation, model.spec, first, later)
    except ValueError as error:
        _log.warning(
            "Baselines use their default settings, because the validation part cannot be used: %s",
            error,
        )
        return None


def _baseline_settings(
    name: str, train: Interactions, model: Recommender, seed: int, tuned: bool
) -> Iterator[tuple[str, SupportScores]]:
    """Yields the settings of a baseline as text, each with a model that is fitted when needed.

    Args:
        name: of the baseline.
        train: training events.
        model: the model that the baseline is compared with.
        seed: random seed.
        tuned: whether there are settings to choose from; otherwise the defaults are used.
    """
    default = BASELINES[name]
    choices = COLD_USER_CONFIGS.get(name, [default.model])
    records = [dataclasses.asdict(config) for config in choices]
    varied = [field for field in records[0] if len({record[field] for record in records}) > 1]
    configs: Sequence[Any] = choices if tuned else [default.model]
    for config in configs:
        strategy = dataclasses.replace(default, model=config)
        text = ", ".join(f"{field}={getattr(config, field)}" for field in varied)
        yield text, history_scores(fit_baseline(strategy, train, model.spec, seed))
