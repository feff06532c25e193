"""Evaluates a model on a split, or a strategy on windows of time, and compares with baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfrec_meta.checks import check
from tfrec_meta.data import Interactions, Split, SplitProtocol
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import (
    Evaluation,
    Evaluations,
    RollingEvaluation,
    Window,
    compare,
    full_catalogue,
)
from tfrec_meta.evaluation.intervals import RESAMPLES
from tfrec_meta.evaluation.judged import SplitSummary
from tfrec_meta.evaluation.predictions import (
    METRICS_OF,
    PredictionEvaluations,
    constant_estimates,
    prediction_estimates,
)
from tfrec_meta.evaluation.rolling import cut_offs, text_of
from tfrec_meta.features.held_out import event_queries, held_out
from tfrec_meta.io.logs import logger
from tfrec_meta.io.progress import Progress
from tfrec_meta.models import Recommender
from tfrec_meta.strategy import Strategy
from tfrec_meta.workflows.baselines import default_baselines, scores_by_items
from tfrec_meta.workflows.configs.evaluation_settings import check_baselines
from tfrec_meta.workflows.train import event_summary, train
from tfrec_meta.workflows.tuned_baselines import BaselineTuner

_log = logger(__name__)


def evaluate(
    model: Recommender,
    split: Split,
    *,
    k: int = 10,
    baselines: Sequence[str] | None = None,
    tune_baselines: bool = True,
    recommend_history: bool = False,
    resamples: int = 1000,
) -> Evaluations:
    """Ranks the full catalogue for each test user, and does the same with baselines.

    The events of the train and validation parts are the user's history; unless
    `recommend_history`, their items are removed from the ranking. All test events are relevant.
    Known and new users, and repeat and new items, are also measured separately.

    Baselines are families of this library. Their settings are chosen on the validation part, or
    without one on held-out events of the train part, and they are then fitted on the train and
    validation parts; see `tfrec_meta.workflows.tuned_baselines.BaselineTuner`.

    Args:
        model: a fitted model.
        split: the model is evaluated on its test part.
        k: length of the lists.
        baselines: names of `tfrec_meta.workflows.baselines.BASELINES`: "popularity", "item_knn",
            "ease", "ials". By default all, without EASE for catalogues of more than 20,000 items.
        tune_baselines: whether the settings of the baselines are chosen. Without it, they have the
            defaults of their families, which takes less time.
        recommend_history: whether items of the history are ranked like all others, as for repeated
            purchases; use the same value in `train`, `tune`, `recommend` and `ExportConfig`.
        resamples: bootstrap draws for the intervals.

    Returns:
        Evaluations by name, the model's first, with the settings of the baselines and the paired
        difference between the model and each baseline.

    Raises:
        ValueError: for an unknown baseline, or a split without test events.

    Example:
        >>> import tfrec_meta as tm
        >>> split = tm.split_by_item(tm.synthetic(users=30, items=20, interactions=300, seed=1))
        >>> model = tm.train(split, "ease", progress=False)
        >>> list(tm.evaluate(model, split, baselines=["popularity"]))
        ['ease', 'popularity']
    """
    check("resamples", resamples, RESAMPLES)
    if baselines is not None:
        check_baselines(baselines)
    test = held_out(model.spec, split.past, split.test)

    def run(name: str, scores: Callable[[np.ndarray], np.ndarray]) -> Evaluation:
        with Progress(f"evaluating {name}", test.relevant.shape[0], "users") as progress:

            def counted(rows: np.ndarray) -> np.ndarray:
                progress.advance(len(rows))
                return scores(rows)

            return full_catalogue(
                counted,
                test.relevant,
                test.seen,
                k=k,
                extra_relevant=test.outside,
                recommend_history=recommend_history,
                known=test.known,
                extra_repeat=test.outside_repeat,
                resamples=resamples,
            )

    def score(rows: np.ndarray) -> np.ndarray:
        return model.score({name: value[rows] for name, value in test.queries.items()})

    ours = run(model.family, score)
    results = Evaluations({model.family: ours}, judged_on=split_summary(split))
    names = default_baselines(model.spec.catalogue_size) if baselines is None else baselines
    if not len(names):
        return results
    tuner = BaselineTuner(
        split, model.spec, recommend_history=recommend_history, k=k, tune=tune_baselines
    )
    for name in names:
        baseline, settings = tuner.fit(name)
        key = name if name not in results else f"{name} (baseline)"
        results[key] = run(key, scores_by_items(baseline, test.history))
        results.settings[key] = settings
        if resamples > 0:
            results.differences[key] = compare(ours, results[key], results.metric, resamples)
    return results


def split_summary(split: Split) -> SplitSummary:
    """Returns the sizes of the parts of a split, and how many test users and items are new."""
    data, new = split.data, []
    past = np.concatenate([split.train_index, split.validation_index, split.past_only_index])
    for codes in (data.user_codes, data.item_codes):
        new.append(int((~np.isin(np.unique(codes[split.test_index]), codes[past])).sum()))
    return SplitSummary(
        split.description,
        event_summary(data),
        event_summary(data, split.train_index),
        event_summary(data, split.validation_index),
        event_summary(data, split.test_index),
        *new,
    )


def rolling_evaluation(
    data: Interactions,
    strategy: Strategy | str = Strategy(),
    *,
    cuts: int | Sequence[int] = 4,
    first: float = 0.6,
    k: int = 10,
    baselines: Sequence[str] | None = None,
    tune_baselines: bool = True,
    recommend_history: bool = False,
    resamples: int = 1000,
    progress: bool = True,
) -> RollingEvaluation:
    """Evaluates a strategy at several cut-offs in time (rolling origin).

    For each cut-off, a model is trained on all earlier events and evaluated on the events up to the
    next cut-off; the last window has all later events. Features, baselines and their settings are
    fitted again each time, on the earlier events. A strategy trains all of its epochs, since no
    validation events are held out. With a target of the declared feedback, only target events are
    predicted, and the shares and windows are those of the target events.

    Args:
        data: events with times.
        strategy: the strategy, or the name of a family for its defaults.
        cuts: how many cut-offs, so that the windows have equal numbers of events; or the cut-offs
            themselves, in Unix seconds and ascending. An event in the second of a cut-off is in the
            window that begins there.
        first: with a number of cut-offs, the share of the events before the first one.
        k, baselines, tune_baselines, recommend_history, resamples: as in `evaluate`. The default
            baselines are the same for all windows.
        progress: whether to show the progress of the training.

    Returns:
        The evaluations of each window, and for each metric the mean and the spread over the
        windows.

    Raises:
        ValueError: if the data has no times, a window has no events, or an argument is not valid.
        TypeError: if `data` is no `Interactions`.

    Example:
        >>> import tfrec_meta as tm
        >>> data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
        >>> found = tm.rolling_evaluation(data, "ease", cuts=2, baselines=["popularity"])
        >>> [window.train_events for window in found.windows]
        [180, 240]
    """
    if not isinstance(data, Interactions):
        raise TypeError(
            f"`data` is a {type(data).__name__}; use Interactions, which are divided by time here."
        )
    check("resamples", resamples, RESAMPLES)
    if baselines is None:
        items = [] if data.items is None else [data.items["item_id"].to_numpy()]
        baselines = default_baselines(len(np.unique(np.concatenate([data.item_ids, *items]))))
    check_baselines(baselines)
    times, is_target = data.times, data.is_target
    if times is None:
        raise ValueError(f"{data.name} has no times; a rolling evaluation needs them.")
    if is_target is None:
        is_target = np.ones(len(data), bool)
    starts = cut_offs(times[is_target], cuts, first)
    windows = []
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], None], strict=True), 1):
        inside = is_target & (times >= start)
        if stop is not None:
            inside &= times < stop
        split = Split(
            data,
            np.flatnonzero(times < start),
            np.empty(0, np.int64),
            np.flatnonzero(inside),
            SplitProtocol.TIME,
            details=f"cut-off {text_of(start)}",
        )
        _log.info("Cut-off %d of %d: %r", number, len(starts), split)
        model = train(split, strategy, progress=progress, recommend_history=recommend_history)
        found = evaluate(
            model,
            split,
            k=k,
            baselines=baselines,
            tune_baselines=tune_baselines,
            recommend_history=recommend_history,
            resamples=resamples,
        )
        counts = len(split.train_index), len(split.test_index)
        windows.append(Window(start, stop, *counts, found))
    return RollingEvaluation(tuple(windows))


def evaluate_predictions(
    model: Recommender, split: Split, *, resamples: int = 1000, seed: int = 42
) -> PredictionEvaluations:
    """Evaluates the ratings or click probabilities that a model predicts for the test events.

    The events of the train and validation parts are the user's history, as in `evaluate`. Other
    test events of the same user are not part of it.

    Args:
        model: a fitted model that has `targets`.
        split: the model is evaluated on its test part.
        resamples: bootstrap draws of users for the intervals.
        seed: seed of the draws.

    Returns:
        By target. For "rating": rmse, mae and calibration. For "click": auc, log_loss, accuracy,
        precision, recall, f1 (at a probability of 0.5), calibration and calibration_error. The
        `baselines` have rmse and mae of the mean rating, or auc and log_loss of the share of
        clicks, of the train and validation parts.

    Raises:
        ValueError: if the model does not predict single events, or there are no test events.
    """
    if not model.targets:
        raise ParameterError(
            f"`model` is of family {model.family!r}, which ranks items and predicts neither "
            "ratings nor clicks. Use `evaluate`, or train a ranker with `target`='rating' or "
            "'click'.",
            "model",
        )
    earlier = split.past.events["value"].to_numpy()
    drawn = (split.test.user_codes, resamples, seed)
    results = PredictionEvaluations()
    for target, (labels, predicted) in predict_test_events(model, split).items():
        results[target] = prediction_estimates(METRICS_OF[target], labels, predicted, *drawn)
        constant = float(np.mean(model.observed(target, earlier), dtype=np.float64))
        results.baselines[target] = constant_estimates(target, constant, labels, *drawn)
    return results


def predict_test_events(model: Recommender, split: Split) -> dict[str, tuple[np.ndarray, ...]]:
    """Returns labels [n] and predictions float32 [n] of the test events, for each target.

    Args:
        model: a fitted model that has `targets`.
        split: the events of its train and validation parts are the user's history.
    """
    queries, items = event_queries(model.spec, split.past, split.test)
    value = split.test.events["value"].to_numpy()
    return {
        target: (model.observed(target, value), predicted)
        for target, predicted in model.predict_events(queries, items).items()
    }
