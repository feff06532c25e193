"""The search for a strategy: `tune`, and the tuner that pipelines use."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import training
from tfrec_meta.checks import check_list
from tfrec_meta.content.text_vectors import data_embedding
from tfrec_meta.data import Interactions, Split, split_by_user, split_leave_last_out
from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.locks import locked_folder
from tfrec_meta.io.logs import logger
from tfrec_meta.models import FAMILIES, Recommender
from tfrec_meta.reports.study_page import write_study_report
from tfrec_meta.strategy import Strategy
from tfrec_meta.tuning.display.hparams_log import write_hparams
from tfrec_meta.tuning.distributed import workers
from tfrec_meta.tuning.options import SearchOptions, TransferOptions
from tfrec_meta.tuning.space import StrategySpace
from tfrec_meta.tuning.studies.data_profile import data_profile
from tfrec_meta.tuning.studies.description import StudyDescription
from tfrec_meta.tuning.studies.store import StudyStore
from tfrec_meta.tuning.surrogates.importance import Surrogate
from tfrec_meta.tuning.surrogates.similarity import Similarity
from tfrec_meta.tuning.trial_report import Report
from tfrec_meta.tuning.trial_runner import EvaluateTrial, best_outcome
from tfrec_meta.tuning.tuner import StrategyTuner
from tfrec_meta.workflows.train import fitted_features, train

_log = logger(__name__)


@dataclasses.dataclass(frozen=True)
class Study:
    """The trials of one search.

    Attributes:
        best_strategy: the strategy with the best validation objective; pass it to `train`.
        trials: one dict per trial, in the order of their starts: `trial_id`, the objective,
            `status` ("completed", "failed", "timed_out" or "stopped"), `error` (None for a
            successful trial), `seconds`, `ended`, `epochs`, `seed`, `values` of the
            hyperparameters, `strategy` (the searched parts), `suggested_by` ("default", "prior",
            "surrogate", "random" or None), `expected` (the predicted `mean` and `std`), `reports`
            (the objective after each epoch), and, for models trained by gradient steps, `curve`.
        objective: the validation metric of the search.
        header: the study's header in the store, with its `study_id`.
        records: the trials' records in the store.
        prior_suggestions: the suggestions of prior studies, best first: dicts with `values`.
        surrogate: predicts the objective of N sets of values: means and standard deviations; None
            for KerasTuner's oracles.
    """

    best_strategy: Strategy
    trials: tuple[Mapping[str, Any], ...]
    objective: Objective = Objective.NDCG
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    records: tuple[Mapping[str, Any], ...] = dataclasses.field(
        default=(), repr=False, compare=False
    )
    prior_suggestions: tuple[Mapping[str, Any], ...] = dataclasses.field(
        default=(), repr=False, compare=False
    )
    surrogate: Surrogate | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def best_value(self) -> float:
        """The best trial's objective on validation."""
        return best_outcome(self.trials, self.objective)[self.objective]

    def report(self, path: Path | str) -> Path:
        """Writes the study's HTML page: the trials, their results, and what made the difference.

        Args:
            path: the .html file.

        Returns:
            The path.
        """
        return write_study_report(
            path, self.header, self.records, self.surrogate, self.prior_suggestions
        )

    def __str__(self) -> str:
        best = best_outcome(self.trials, self.objective)
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
    similarity: Sequence[str] = (),
    seed: int = 42,
    progress: bool = True,
    trial_seconds: float | None = None,
    recommend_history: bool = False,
) -> Study:
    """Searches for the strategy with the best NDCG@10 over the full catalogue on validation.

    For models of ratings or clicks, the objective is their RMSE or AUC. The first trial is the
    default strategy. The next trials are the best points of comparable prior studies. After them, a
    surrogate of prior studies and own trials suggests the trials with the highest expected
    improvement. A failed trial counts as the worst, and the search goes on. If the weights of
    declared feedback vary, whether to use them (`use_weights`) is searched, too.

    Args:
        data: training events, or a Split, whose train and validation parts are used; never its
            test part. Without validation events, a tenth of the users' events is held out at random
            if the training events are a random part, else each user's last event.
        trials: the number of strategies to try.
        strategy: the fixed part: features, epochs of a trial, patience, seed of the training.
        families: keys of `tfrec_meta.models.FAMILIES` to choose from; the strategy's by default.
        oracle: "meta_bayesian" or "meta_hyperband", which learn from prior studies; or KerasTuner's
            "bayesian", "hyperband", "random" or "grid".
        fixed: hyperparameters that are not searched, such as {"two_tower/embedding_dim": 64}.
        space: a space of your own: a StrategySpace, or a function of KerasTuner's `hp` that
            replaces the `search_space` of the strategy's family, such as
            `lambda hp: {"model": {"embedding_dim": hp.Choice("embedding_dim", [16, 64])}}`.
        validation: events to choose by.
        folder: of the study. After a kill, the same call continues the study, and a call with more
            `trials` extends it. A second process waits until the first is done. When the search
            ends, `report.html` and `tensorboard` are written there. Without a folder, the study is
            only recorded in the store.
        store: of all studies, or its folder; by default $TFREC_META_STUDIES, else `studies` in the
            user's data folder. A store that is damaged or read-only does not stop a search.
        remember: whether the store's studies are read and this one is written. Without it, only the
            studies of the package are prior studies.
        description: of the data in words, for the store.
        similarity: how prior studies are weighted: "profile", by the similarity of counts and
            shapes of their data, and "texts", by BERT embeddings of the description and of items'
            texts (which takes some seconds; the store keeps the embedding). By default all studies
            have equal weights, which gave results as good.
        seed: of the search.
        progress: whether to show progress.
        trial_seconds: the time limit of a trial in seconds, checked after each epoch; infinity for
            no limit. A trial that exceeds it counts as the worst. By default, ten times the longest
            completed trial, and at least ten minutes.
        recommend_history: whether validation ranks items of the users' histories like all others,
            as for repeated purchases; use the same value in `train` and `evaluate`.

    Returns:
        The study.

    Raises:
        ValueError: for an unknown family, hyperparameter or oracle, for validation events that no
            model can predict, for a `folder` with another study, or for a distributed search
            without a `folder`.
        TypeError: for `data` or a `space` of another type.
        RuntimeError: if every trial failed.

    Example:
        >>> import tfrec_meta as tm
        >>> data = tm.synthetic(users=40, items=30, interactions=500, seed=1)
        >>> study = tm.tune(
        ...     data,
        ...     trials=2,
        ...     strategy=tm.Strategy("popularity"),
        ...     families=["popularity", "ease"],
        ...     oracle="random",
        ...     remember=False,
        ...     progress=False,
        ... )
        >>> len(study.trials), study.trials[0]["suggested_by"]
        (2, 'default')
    """
    events = _search_events(data, validation, description, seed, recommend_history)
    features = fitted_features(strategy, events.train)
    with contextlib.ExitStack() as stack:
        is_temporary = folder is None
        if folder is None:
            if workers.role() != "alone":
                raise ValueError(
                    "`folder`=None, but a chief and its workers share a folder; use a path."
                )
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tfrec-meta-study-"))
        elif workers.role() != "worker":  # workers share the folder of their chief
            stack.enter_context(locked_folder(folder))
        tuner = strategy_tuner(
            events,
            strategy,
            features,
            _strategy_space(space, strategy, families, fixed, events.train),
            folder,
            SearchOptions(
                oracle=oracle,
                trials=trials,
                epochs=strategy.training.epochs,
                seed=seed,
                trial_seconds=trial_seconds,
                progress=progress,
            ),
            TransferOptions(
                store=_study_store(store) if remember else None,
                use_prior_studies=True,
                similarity=similarity,
            ),
        )
        tuner.search()
        study = Study(
            strategy.with_changes(tuner.best_strategy_record()),
            tuple(tuner.trials()),
            tuner.objective,
            tuner.header,
            tuple(tuner.records()),
            tuple(tuner.prior_suggestions()),
            tuner.surrogate,
        )
        if not is_temporary and tuner.role != "worker":
            _write_pages(study, Path(folder))
        return study


@dataclasses.dataclass(frozen=True)
class SearchEvents:
    """The events of a search.

    Attributes:
        train: training events.
        validation: events that the models must predict.
        protocol: how the validation events were held out. The search learns only from prior studies
            with the same protocol.
        description: of the data in words.
        recommend_history: whether items of the users' histories are ranked like all others.
    """

    train: Interactions
    validation: Interactions
    protocol: ValidationProtocol = ValidationProtocol.GIVEN
    description: str = ""
    recommend_history: bool = False


def _search_events(
    data: Interactions | Split,
    validation: Interactions | None,
    description: str,
    seed: int,
    recommend_history: bool,
) -> SearchEvents:
    """Returns the events of a search; holds out validation events if there are none."""
    protocol = ValidationProtocol.GIVEN
    if isinstance(data, Split):
        if validation is None:
            validation, protocol = data.validation, data.protocol.validation
        data = data.train
    if not isinstance(data, Interactions):
        raise TypeError(
            f"`data` is a {type(data).__name__}, but a search reads the events many times; use "
            "Interactions or a Split, such as a sample of the users."
        )
    if validation is None or not len(validation):
        split = _hold_out(data, seed)
        data, validation, protocol = split.train, split.test, split.protocol.validation
    return SearchEvents(data, validation, protocol, description, recommend_history)


def _hold_out(data: Interactions, seed: int) -> Split:
    """Returns a split whose test part serves as validation events."""
    if data.sampled or data.times is None:
        return split_by_user(data, train=0.9, seed=seed)
    return split_leave_last_out(data, validation=False)


def _strategy_space(
    space: StrategySpace | Callable[[Any], Mapping[str, Any]] | None,
    strategy: Strategy,
    families: Sequence[str] | None,
    fixed: Mapping[str, Any] | None,
    data: Interactions,
) -> StrategySpace:
    if isinstance(space, StrategySpace):
        if families is not None or fixed is not None:
            raise ValueError(
                "`space` is a StrategySpace, which has `families` and `fixed` of its own. Leave "
                "these out."
            )
        return space
    if space is not None and not callable(space):
        raise TypeError(f"`space` is a {type(space).__name__}; use a StrategySpace or a function.")
    declare = {} if space is None else {strategy.family: space}
    check_list("families", families)
    return strategy_space(strategy, tuple(families or (strategy.family,)), fixed, data, declare)


def strategy_space(
    strategy: Strategy,
    families: tuple[str, ...],
    fixed: Mapping[str, Any] | None,
    data: Interactions,
    declare: Mapping[str, Callable[[Any], Mapping[str, Any]]] | None = None,
) -> StrategySpace:
    """Returns the search space for some data, for `tune` and pipelines.

    If the weights of declared feedback vary, and the strategy uses them, `use_weights` is searched.

    Args:
        strategy: the fixed part.
        families: keys of `tfrec_meta.models.FAMILIES` to choose from.
        fixed: hyperparameters that are not searched.
        data: the training events.
        declare: functions that replace the `search_space` of a family.

    Raises:
        ValueError: as `StrategySpace`.
    """
    weights = strategy.use_weights and data.weights_vary and _learns_by_weights(strategy, families)
    return StrategySpace(families, fixed or {}, declare or {}, weights)


def _learns_by_weights(strategy: Strategy, families: Sequence[str]) -> bool:
    """Whether any of the families is not a model of ratings or clicks, which ignores weights."""
    configs = {
        family: strategy.model if family == strategy.family else FAMILIES[family].config_type()
        for family in families
        if family in FAMILIES
    }
    return any(
        FAMILIES[family].objective_of(config) is Objective.NDCG
        for family, config in configs.items()
    )


def _study_store(store: StudyStore | Path | str | None) -> StudyStore:
    return store if isinstance(store, StudyStore) else StudyStore(store)


def _write_pages(study: Study, folder: Path) -> None:
    try:
        study.report(folder / "report.html")
        write_hparams(folder / "tensorboard", study.header, study.records)
    except Exception:  # the results must not be lost because of their page
        _log.warning("The report of the study in %s cannot be written.", folder, exc_info=True)


def strategy_tuner(
    events: SearchEvents,
    strategy: Strategy,
    features: FeatureSpec,
    space: StrategySpace,
    folder: Path | str,
    options: SearchOptions,
    transfer: TransferOptions,
) -> StrategyTuner:
    """Returns a tuner that is ready to start or continue a search; for `tune` and pipelines.

    Args:
        events: training and validation events.
        strategy: the fixed part.
        features: a fitted spec.
        space: the search space.
        folder: of the study.
        options: how the search runs.
        transfer: the use of prior studies.

    Raises:
        ValueError: as `tune`.
    """
    train_digest = events.train.digest()
    data = {
        "name": events.train.name,
        "fingerprint": train_digest,
        "description": events.description,
    }
    uses_texts = Similarity.TEXTS in transfer.similarity
    study = StudyDescription(
        objective=search_objective(strategy, space.families),
        protocol=events.protocol,
        data=data,
        profile=data_profile(events.train),
        text_embedding=data_embedding(events.train, events.description) if uses_texts else None,
        identity={
            "data": train_digest,
            "validation": events.validation.digest(),
            "strategy": strategy.as_dict(),
            **({"recommend_history": True} if events.recommend_history else {}),
        },
    )
    return StrategyTuner(
        trial_evaluator(events, strategy, features),
        space,
        folder,
        options,
        study,
        transfer,
        lambda record: strategy.with_changes(record).as_dict(),
    )


def write_report(tuner: StrategyTuner, path: Path | str) -> Path:
    """Writes the HTML page of a tuner's study, at any time.

    Args:
        tuner: of the study.
        path: the .html file.

    Returns:
        The path.
    """
    return write_study_report(
        path, tuner.header, tuner.records(), tuner.surrogate, tuner.prior_suggestions()
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
        raise ParameterError(
            f"`families`={tuple(families)} have the objectives {', '.join(sorted(found))}, which "
            "cannot be compared. Search families with the same target.",
            "families",
        )
    return found.pop()


def trial_evaluator(
    events: SearchEvents, strategy: Strategy, features: FeatureSpec
) -> EvaluateTrial:
    """Returns the function that a tuner calls for each trial: it trains and scores a strategy.

    Data, features and validation queries are prepared only once.

    Args:
        events: training and validation events.
        strategy: the fixed part.
        features: a fitted spec.

    Raises:
        ValueError: if no validation event has an item of the catalogue: all models would score 0.
    """
    data = events.train
    validator = training.Validation(
        features, data, events.validation, strategy.training.seed, events.recommend_history
    )
    if not validator.has_relevant_items:
        raise ValueError(
            "No validation event has an item of the catalogue, so no model can be chosen by them. "
            "Check the split."
        )

    def evaluate_trial(
        record: Mapping[str, Any], epochs: int, folder: Path, report: Report
    ) -> dict[str, Any]:
        chosen = strategy.with_changes(record)
        recipe = dataclasses.replace(chosen.training, epochs=epochs)
        chosen = dataclasses.replace(chosen, training=recipe)
        # Models contain reference cycles; without a collection, memory would run out.
        gc.collect()
        is_composite = bool(chosen.members())  # its members' figures are not those of the trial

        def on_epoch(model: Recommender, line: Mapping[str, float]) -> None:
            report(int(line["epoch"]), None if is_composite else line[model.objective])

        model = train(
            data,
            chosen,
            validation=validator,
            features=features,
            progress=False,
            on_epoch=on_epoch,
        )
        objective, curve = model.objective, list(model.curve)
        lines = curve or [validator.metrics(model)]
        best = max(lines, key=lambda line: objective.score(line[objective]))
        return {objective.value: best[objective], "curve": curve}

    return evaluate_trial
