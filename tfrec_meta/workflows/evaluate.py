"""Evaluates a model on the test part of a split, and compares it with baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfrec_meta.checks import check
from tfrec_meta.data import Split
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation import Estimate, Evaluation, Evaluations, compare, full_catalogue
from tfrec_meta.evaluation.intervals import RESAMPLES
from tfrec_meta.evaluation.predictions import (
    CLICK_METRICS,
    RATING_METRICS,
    format_predictions,
    prediction_estimates,
)
from tfrec_meta.evaluation.ranking import Scores
from tfrec_meta.features.held_out import event_queries, held_out
from tfrec_meta.models import Recommender
from tfrec_meta.workflows.baselines import check_baselines, default_baselines, scores_by_items
from tfrec_meta.workflows.tuned_baselines import BaselineTuner


class PredictionEvaluations(dict[str, Mapping[str, Estimate]]):
    """Metrics of predictions by target, "rating" and "click"; prints as one table."""

    def __str__(self) -> str:
        return format_predictions(self)


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

    def run(scores: Scores) -> Evaluation:
        return full_catalogue(
            scores,
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

    ours = run(score)
    results = Evaluations({model.family: ours})
    names = default_baselines(model.spec.catalogue_size) if baselines is None else baselines
    if not len(names):
        return results
    tuner = BaselineTuner(
        split, model.spec, recommend_history=recommend_history, k=k, tune=tune_baselines
    )
    for name in names:
        baseline, settings = tuner.fit(name)
        key = name if name not in results else f"{name} (baseline)"
        results[key] = run(scores_by_items(baseline, test.history))
        results.settings[key] = settings
        if resamples > 0:
            results.differences[key] = compare(ours, results[key], results.metric, resamples)
    return results


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
        precision, recall, f1 (at a probability of 0.5), calibration and calibration_error.

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
    test = split.test
    queries, items = event_queries(model.spec, split.past, test)
    value = test.events["value"].to_numpy()
    results = PredictionEvaluations()
    for target, predicted in model.predict_events(queries, items).items():
        results[target] = prediction_estimates(
            CLICK_METRICS if target == "click" else RATING_METRICS,
            model.observed(target, value),
            predicted,
            test.user_codes,
            resamples,
            seed,
        )
    return results
