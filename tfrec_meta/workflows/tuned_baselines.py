"""Chooses the settings of baselines on validation, so that a model is compared with good ones."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfrec_meta.data import (
    Interactions,
    Split,
    SplitProtocol,
    split_by_item,
    split_by_time,
    split_by_user,
    split_cold_items,
    split_cold_users,
    split_leave_last_out,
)
from tfrec_meta.evaluation import BaselineSettings, ChosenOn, full_catalogue
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import HeldOut, held_out
from tfrec_meta.io.logs import logger
from tfrec_meta.io.progress import Progress
from tfrec_meta.models import Recommender
from tfrec_meta.strategy import Strategy
from tfrec_meta.workflows.baselines import (
    BASELINE_CONFIGS,
    BASELINES,
    fit_baseline,
    scores_by_items,
)

_USERS = 20_000  # whose held-out events decide; more would not change the choice
_MOST_EVENTS = 20_000_000  # that one baseline is fitted on while its settings are chosen
_MOST_CUBES = 6e12  # of the catalogue's size, for EASE: five matrices of 10,000 items
_HELD_OUT = 0.1  # share of the train events, without a validation part
_log = logger(__name__)


class BaselineTuner:
    """Fits baselines whose settings are chosen on held-out events, never on test events.

    Each config of `BASELINE_CONFIGS` is fitted on the train part and measured by NDCG@k on the
    validation part. Without validation events, a tenth of the train events is held out by the
    protocol of the split (leave-last-out: the last event of each user) and the configs are fitted
    on the others. The best is fitted again on the train and validation parts. Equal results keep
    the default. If the events have weights that vary, each config is compared with and without
    them. The held-out events of at most 20,000 users decide.

    The cost is bounded: the larger the data, the fewer configs are compared, in the order of the
    list. Over 10 million events, or 15,000 items for EASE, the default is used. The bound depends
    on counts only, so that the choice is reproducible.

    Args:
        split: its test part is not used.
        spec: the fitted spec of the model that the baselines are compared with.
        recommend_history: as in `full_catalogue`.
        k: length of the lists.
        tune: whether settings are chosen; otherwise the defaults are used.
    """

    def __init__(
        self,
        split: Split,
        spec: FeatureSpec,
        *,
        recommend_history: bool = False,
        k: int = 10,
        tune: bool = True,
    ):
        self._split, self._spec = split, spec
        self._recommend_history, self._k = recommend_history, k
        self._train: Interactions | None = None
        self._questions: HeldOut | None = None
        self._chosen_on = ChosenOn.NOTHING
        if tune:
            self._hold_out()

    def fit(self, name: str) -> tuple[Recommender, BaselineSettings]:
        """Returns a baseline that is fitted on train and validation, and its settings.

        Args:
            name: a key of `BASELINES`.
        """
        strategies = self._affordable(name)
        chosen, chosen_on = strategies[0], ChosenOn.NOTHING
        if len(strategies) > 1:
            values = self._values(name, strategies)
            chosen = strategies[int(np.argmax(values))]  # the first among equals
            chosen_on = self._chosen_on
        records = [self._settings(strategy) for strategy in strategies]
        compared = [n for n in records[0] if len({repr(record[n]) for record in records}) > 1]
        settings = BaselineSettings(
            self._settings(chosen), tuple(compared), len(strategies), chosen_on
        )
        with _without_retracing_warnings():
            return fit_baseline(chosen, self._split.past, self._spec), settings

    def _hold_out(self) -> None:
        """Prepares the events that decide; without usable ones, the defaults are kept."""
        train, validation, chosen_on = self._split.train, self._split.validation, ChosenOn.TRAIN
        try:
            if len(validation):
                chosen_on = ChosenOn.VALIDATION
            else:
                inner = inner_split(self._split)
                train, validation = inner.train, inner.test
            users = validation.user_ids
            if len(users) > _USERS:
                users = np.random.default_rng(0).choice(users, _USERS, replace=False)
            questions = held_out(self._spec, train, validation, users)
        except ValueError as error:
            _log.info("Baselines have their default settings: %s", error)
            return
        if not questions.relevant.nnz:
            _log.info(
                "Baselines have their default settings: no held-out event has an item of the "
                "catalogue."
            )
            return
        self._train, self._questions, self._chosen_on = train, questions, chosen_on

    def _settings(self, strategy: Strategy) -> dict[str, Any]:
        """Returns the settings of a baseline as plain values."""
        settings = dataclasses.asdict(strategy.model)
        if self._split.train.weights_vary:
            settings["use_weights"] = strategy.use_weights
        return settings

    def _affordable(self, name: str) -> list[Strategy]:
        """Returns the strategies that are compared: all, or fewer for large data."""
        strategies = [
            dataclasses.replace(BASELINES[name], model=config, use_weights=use_weights)
            for config in BASELINE_CONFIGS.get(name, [BASELINES[name].model])
            for use_weights in ((True, False) if self._split.train.weights_vary else (True,))
        ]
        if self._train is None:
            return strategies[:1]
        most = _MOST_EVENTS // len(self._train)
        if name == "ease":
            most = min(most, int(_MOST_CUBES // self._spec.catalogue_size**3))
        if most < len(strategies):
            _log.info(
                "Baseline %s: %d of %d settings are compared, because the data is large.",
                *(name, max(most, 1), len(strategies)),
            )
        return strategies[: max(most, 1)]

    def _values(self, name: str, strategies: Sequence[Strategy]) -> list[float]:
        """Returns the NDCG@k of each strategy on the held-out events."""
        assert self._train is not None
        assert self._questions is not None
        values = []
        with (
            _without_retracing_warnings(),
            Progress(f"choosing the settings of {name}", len(strategies), "settings") as progress,
        ):
            for strategy in strategies:
                model = fit_baseline(strategy, self._train, self._spec)
                values.append(self._ndcg(model, self._questions))
                progress.advance(1)
        return values

    def _ndcg(self, model: Recommender, questions: HeldOut) -> float:
        found = full_catalogue(
            scores_by_items(model, questions.history),
            questions.relevant,
            questions.seen,
            k=self._k,
            metrics=("ndcg",),
            extra_relevant=questions.outside,
            recommend_history=self._recommend_history,
            resamples=0,
        )
        return found[f"ndcg@{self._k}"].value


def inner_split(split: Split) -> Split:
    """Splits the train part once more, by the same protocol; its test part is held out.

    Held-out domains and given parts cannot be repeated inside of the train part. For these, each
    user's last event is held out, or a tenth of each user's events if there are no times.

    Raises:
        ValueError: if the train part is too small.
    """
    data, seed = split.train, split.seed or 0
    match split.protocol:
        case SplitProtocol.ITEM:
            return split_by_item(data, 1 - _HELD_OUT, seed=seed)
        case SplitProtocol.USER:
            return split_by_user(data, 1 - _HELD_OUT, seed=seed)
        case SplitProtocol.TIME:
            return split_by_time(data, 1 - _HELD_OUT, validation=0)
        case SplitProtocol.COLD_USERS:
            return split_cold_users(data, _HELD_OUT, seed=seed)
        case SplitProtocol.COLD_ITEMS:
            return split_cold_items(data, _HELD_OUT, seed=seed)
    return _last_or_random(data, seed)


def _last_or_random(data: Interactions, seed: int) -> Split:
    if data.times is None:
        return split_by_user(data, 1 - _HELD_OUT, seed=seed)
    return split_leave_last_out(data, validation=False)


@contextlib.contextmanager
def _without_retracing_warnings() -> Iterator[None]:
    """Mutes TensorFlow's warning about functions that are traced again: each config is a model."""
    tensorflow = logging.getLogger("tensorflow")
    before = tensorflow.level
    tensorflow.setLevel(logging.ERROR)
    try:
        yield
    finally:
        tensorflow.setLevel(before)
