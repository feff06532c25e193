"""The search for a strategy: `tune`, and what a tuner of a pipeline is made of."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import (
    training,
)
from tfrec_meta.data import (
    Interactions,
    Split,
    ValidationProtocol,
    split_by_user,
    split_leave_last_out,
)
from tfrec_meta.distillation import data_embedding
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import FAMILIES, Recommender
from tfrec_meta.reports.study_page import write_study_report
from tfrec_meta.strategy import Strategy
from tfrec_meta.tuning import (
    ORACLES,
    REMEMBERING,
    EvaluateTrial,
    Memory,
    Report,
    StrategySpace,
    StrategyTuner,
    StudyStore,
    best_of,
    recall,
    study_header,
)
from tfrec_meta.tuning.display.hparams_log import write_hparams
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.studies.data_profile import data_profile
from tfrec_meta.tuning.surrogates.importance import Surrogate
from tfrec_meta.tuning.surrogates.meta_surrogate import affinities
from tfrec_meta.workflows.train import fitted_features, train

NEARNESS = ("profile", "texts")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Study:
    """The trials of one search.

    Attributes:
        best_strategy: what did best on validation; `train` takes it.
        trials: one dict a trial, in their order: `trial_id`, the objective, `status` ("completed",
            "failed", "timed_out" or "stopped"), `error` (None if all went well), `seconds`,
            `ended`, `epochs`, `seed`, `values` of the hyperparameters, `strategy` (the parts that
            were searched), `suggested_by` ("default", "prior", "surrogate", "random" or None),
            `expected` (`mean` and `std` of what a surrogate expected), `reports` (the objective
            after each epoch), and of those that were trained by steps to their end `curve`.
        objective: the validation metric of the search.
        header: what the memory of studies knows of this one, by its `study_id`.
        records: the trials as that memory has them.
        prior: what earlier studies suggested, the best first: dicts with `values`.
        surrogate: predicts the objective of N sets of values: means and standard deviations; None
            of KerasTuner's oracles.
    """

    best_strategy: Strategy
    trials: tuple[Mapping[str, Any], ...]
    objective: Objective = Objective.NDCG
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    records: tuple[Mapping[str, Any], ...] = dataclasses.field(
        default=(), repr=False, compare=False
    )
    prior: tuple[Mapping[str, Any], ...] = dataclasses.field(default=(), repr=False, compare=False)
    surrogate: Surrogate | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def best_value(self) -> float:
        """The best trial's objective, on validation."""
        return best_of(self.trials, self.objective)[self.objective]

    def report(self, path: Path | str) -> Path:
        """Writes the study's HTML page: what was tried, what came of it, what made the difference.

        Args:
            path: the .html file.

        Returns:
            The path.
        """
        return write_study_report(path, self.header, self.records, self.surrogate, self.prior)

    def __str__(self) -> str:
        best = best_of(self.trials, self.objective)
        figure = f"{self.objective} {self.best_value:.4f}"
        return f"{len(self.trials)} trials, best {figure}: {best['values']}"


def tune(
    data: Interactions | Split,
    trials: int = 30,
    *,
    strategy: Strategy = Strategy(),
    families: Sequence[str] | None = None,
    oracle: str = "meta_bayesian",
    fixed: Mapping[str, Any] | None = None,
    space: StrategySpace | Callable[[Any], Mapping[str, Any]] | None = None,
    validation: Interactions | None = None,
    folder: Path | str | None = None,
    store: StudyStore | Path | str | None = None,
    remember: bool = True,
    description: str = "",
    nearness: Sequence[str] = (),
    seed: int = 42,
    progress: bool = True,
    trial_seconds: float | None = None,
) -> Study:
    """Searches for the strategy that does best on validation, by NDCG@10 of the full catalogue.

    A strategy whose model is made for ratings or clicks is searched by their RMSE or AUC. The first
    trial is the default strategy; the next ones are what did best in earlier studies of the same
    kind, and then what a surrogate that knows these and the new trials promises most of. A trial
    that fails counts as bad, and the search goes on.

    Args:
        data: training events, or a Split, whose train and validation parts are used; never its
            test part. Where there is no validation, a tenth of the training events is held out,
            as the data allows: at random of a random part, else each user's last event.
        trials: how many strategies are tried.
        strategy: what is not searched: features, epochs of a trial, patience, seed of training.
        families: keys of `tfrec_meta.models.FAMILIES` to choose from; the strategy's by default.
        oracle: "meta_bayesian" or "meta_hyperband", which remember; or KerasTuner's "bayesian",
            "hyperband", "random" or "grid".
        fixed: hyperparameters that are not searched, as {"two_tower/embedding_dim": 64}.
        space: of your own: a StrategySpace, or a function of KerasTuner's `hp` that stands in for
            the `search_space` of the strategy's family, as
            `lambda hp: {"model": {"embedding_dim": hp.Choice("embedding_dim", [16, 64])}}`.
        validation: events to choose by.
        folder: where the study lives; the same call goes on with it after a kill, and with more
            `trials` extends it. When the search has ended `report.html` and `tensorboard` are
            there, too. Without one, nothing is kept but what the store remembers.
        store: of all studies, or its folder; by default $TFREC_META_STUDIES, else `studies` in the
            user's data folder. One that is damaged or can't be written stops no search.
        remember: whether earlier studies are read and this one is written; without it nothing is
            known but the studies that come with the package.
        description: of the data in words, for the store.
        nearness: by what earlier studies are believed the more before there are trials: "profile",
            the nearness of their data's counts and shapes, and "texts", that of what a BERT makes
            of the description and of items' texts (which the store keeps then; it takes some
            seconds). By default all are believed alike, which did as well.
        seed: of the search.
        progress: whether to show it.
        trial_seconds: that a trial may take, else it counts as the worst; looked at after each
            epoch.

    Raises:
        ValueError: for a family, a hyperparameter or an oracle that there is not, data that nothing
            can be chosen by, a `folder` with a study of something else, or none to share among a
            chief and its workers.
        RuntimeError: if every trial failed.
    """
    protocol = ValidationProtocol.GIVEN
    if isinstance(data, Split):
        if validation is None:
            validation, protocol = data.validation, data.protocol.validation
        data = data.train
    if not isinstance(data, Interactions):
        raise TypeError(
            f"`data` is a {type(data).__name__}, but a search goes through the events many times; "
            "give Interactions or a Split, as of a sample of the users."
        )
    if validation is None or not len(validation):
        split = _hold_out(data, seed)
        data, validation, protocol = split.train, split.test, split.protocol.validation
    features = fitted_features(strategy, data)
    with contextlib.ExitStack() as stack:
        keeps = folder is not None
        if folder is None:
            if workers.role() != "alone":
                raise ValueError("`folder`=None, but a chief and its workers share one. Name it.")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tfrec-meta-study-"))
        tuner = strategy_tuner(
            data,
            validation,
            strategy,
            features,
            _space_of(space, strategy, families, fixed),
            folder,
            oracle=oracle,
            trials=trials,
            epochs=strategy.training.epochs,
            seed=seed,
            progress=progress,
            trial_seconds=trial_seconds,
            store=_store_of(store) if remember else None,
            protocol=protocol,
            description=description,
            nearness=nearness,
        )
        tuner.search()
        study = Study(
            strategy.with_changes(tuner.best_strategy_record()),
            tuple(tuner.trials()),
            tuner.objective,
            tuner.header,
            tuple(tuner.records()),
            tuple(tuner.prior()),
            tuner.surrogate,
        )
        if keeps and tuner.role != "worker":
            _leave_pages(study, Path(folder))
        return study


def _space_of(
    space: StrategySpace | Callable[[Any], Mapping[str, Any]] | None,
    strategy: Strategy,
    families: Sequence[str] | None,
    fixed: Mapping[str, Any] | None,
) -> StrategySpace:
    if isinstance(space, StrategySpace):
        if families is not None or fixed is not None:
            raise ValueError("`space` has `families` and `fixed` of its own. Leave these out.")
        return space
    if space is not None and not callable(space):
        raise TypeError(f"`space` is a {type(space).__name__}; give a StrategySpace or a function.")
    declare = {} if space is None else {strategy.family: space}
    return StrategySpace(tuple(families or (strategy.family,)), fixed or {}, declare)


def _store_of(store: StudyStore | Path | str | None) -> StudyStore:
    return store if isinstance(store, StudyStore) else StudyStore(store)


def _leave_pages(study: Study, folder: Path) -> None:
    try:
        study.report(folder / "report.html")
        write_hparams(folder / "tensorboard", study.header, study.records)
    except Exception:  # what was found is worth more than its pages
        _log.warning("The pages of the study in %s can't be written.", folder, exc_info=True)


def strategy_tuner(
    data: Interactions,
    validation: Interactions,
    strategy: Strategy,
    features: FeatureSpec,
    space: StrategySpace,
    folder: Path | str,
    *,
    oracle: str,
    trials: int,
    epochs: int,
    seed: int,
    store: StudyStore | None,
    protocol: ValidationProtocol,
    description: str = "",
    nearness: Sequence[str] = (),
    trial_seconds: float | None = None,
    progress: bool = True,
) -> StrategyTuner:
    """A search that is ready to begin or to go on, with what it remembers; of `tune` and pipelines.

    Args:
        data: training events.
        validation: what is to be found.
        strategy: what is not searched.
        features: a fitted spec.
        space: what is searched.
        folder: of the study.
        oracle: a key of `tfrec_meta.tuning.ORACLES`.
        trials: how many are tried.
        epochs: of one trial, at most.
        seed: of the search.
        store: read by an oracle that remembers, and written by all; None for neither.
        protocol: how the validation events were held out. The search learns only from earlier
            studies with the same protocol.
        description: of the data in words.
        nearness: by what earlier studies are weighed, see `tune`.
        trial_seconds: that a trial may take.
        progress: whether to show it.

    Raises:
        ValueError: as `tune`.
    """
    objective = search_objective(strategy, space.families)
    if oracle not in ORACLES:
        raise ValueError(f"`oracle`={oracle!r}; use one of {', '.join(ORACLES)}.")
    strange = sorted(set(nearness) - set(NEARNESS))
    if strange:
        raise ValueError(f"`nearness` has {', '.join(strange)}; use any of {', '.join(NEARNESS)}.")
    fingerprint = training.digest_of_events(data)
    profile = data_profile(data)
    texts = data_embedding(data, description) if "texts" in nearness else None
    hyperparameters = space.hyperparameters()
    header = study_header(
        folder,
        hyperparameters.get_config()["space"],
        space_version=space.version,
        objective=objective,
        direction=objective.direction,
        oracle=oracle,
        epochs=epochs,
        seed=seed,
        protocol=protocol,
        data={"name": data.name, "fingerprint": fingerprint, "description": description},
        profile=profile,
        text_embedding=texts,
    )
    memory, beliefs = Memory(), None
    # A worker asks its chief, who remembers.
    if oracle in REMEMBERING and workers.role() != "worker":
        beside = Path(folder) if store is None else store.folder
        memory = recall(header, hyperparameters, store, beside / "surrogates")
        if progress:
            print(memory, file=sys.stderr, flush=True)
        if nearness and memory.surrogate is not None:
            near = profile if "profile" in nearness else None
            beliefs = affinities(memory.surrogate, near, texts)
    return StrategyTuner(
        trial_evaluator(data, validation, strategy, features),
        space,
        folder,
        oracle=oracle,
        trials=trials,
        epochs=epochs,
        seed=seed,
        progress=progress,
        objective=objective,
        trial_seconds=trial_seconds,
        about={
            "data": fingerprint,
            "validation": training.digest_of_events(validation),
            "strategy": strategy.as_dict(),
        },
        memory=memory.surrogate,
        beliefs=beliefs,
        header=header,
        store=store,
        whole_strategy=lambda record: strategy.with_changes(record).as_dict(),
    )


def search_objective(strategy: Strategy, families: Sequence[str]) -> Objective:
    """Returns the objective that all models of a search have in common.

    Args:
        strategy: the fixed part, such as the target of a ranker.
        families: the searched families.

    Raises:
        ValueError: if the objectives differ, since their values cannot be compared.
    """
    found = set()
    for family in families:
        config = strategy.model if family == strategy.family else FAMILIES[family].config_type()
        found.add(FAMILIES[family].objective_of(config))
    if len(found) > 1:
        raise ValueError(
            f"`families`={tuple(families)} have the objectives {', '.join(sorted(found))}, which "
            "cannot be compared. Search families with the same target."
        )
    return found.pop()


def trial_evaluator(
    data: Interactions, validation: Interactions, strategy: Strategy, features: FeatureSpec
) -> EvaluateTrial:
    """What a tuner calls for each trial: trains a strategy and scores it on validation.

    Data, features and the questions of the validation are prepared once.

    Args:
        data: training events.
        validation: what is to be found.
        strategy: what a trial doesn't say.
        features: a fitted spec.

    Raises:
        ValueError: if no validation event has an item of the catalogue: all models would score 0.
    """
    asking = training.Validation(features, data, validation, strategy.training.seed)
    if not asking.has_relevant_items:
        raise ValueError(
            "No validation event has an item of the catalogue, so nothing can be chosen by it. "
            "Check the split."
        )

    def evaluate_trial(
        record: Mapping[str, Any], epochs: int, folder: Path, report: Report
    ) -> dict[str, Any]:
        chosen = strategy.with_changes(record)
        recipe = dataclasses.replace(chosen.training, epochs=epochs)
        chosen = dataclasses.replace(chosen, training=recipe)
        # A model holds itself in cycles; with those of earlier trials memory would run out.
        gc.collect()
        whole = not chosen.members()  # theirs are not figures of the trial

        def on_epoch(model: Recommender, line: Mapping[str, float]) -> None:
            report(int(line["epoch"]), line[model.objective] if whole else None)

        model = train(
            data,
            chosen,
            validation=asking,
            features=features,
            progress=False,
            on_epoch=on_epoch,
        )
        curve = list(model.curve)
        best = max(
            curve or [asking.metrics(model)],
            key=lambda line: model.objective.score(line[model.objective]),
        )
        return {model.objective: best[model.objective], "curve": curve}

    return evaluate_trial


def _hold_out(data: Interactions, seed: int) -> Split:
    """What is left to train on, and as the test part what to choose by."""
    if data.sampled or data.times is None:
        return split_by_user(data, train=0.9, seed=seed)
    return split_leave_last_out(data, validation=False)
