"""Evaluates a model on the test part of a split, beside baselines."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfrec_meta.data import Split
from tfrec_meta.evaluation import Estimate, Evaluation, format_table, full_catalogue, peers
from tfrec_meta.evaluation.predictions import CLICK, RATING, format_predictions, judge_predictions
from tfrec_meta.features.held_out import event_queries, held_out, interaction_matrix
from tfrec_meta.models import EASEConfig, Recommender
from tfrec_meta.models.solvers.ease import ease_weights

BASELINES = ("popularity", "item_knn", "ease", "ials")
_LARGE_CATALOGUE = 20_000  # items: EASE inverts a matrix of this width
_log = logging.getLogger(__name__)
RowScores = Callable[[np.ndarray], np.ndarray]


class Evaluations(dict[str, Evaluation]):
    """Evaluations by name, the model's first; prints as one table."""

    def __str__(self) -> str:
        return format_table(self)


class Judgements(dict[str, Mapping[str, Estimate]]):
    """Figures of predictions by target, "rating" and "click"; prints as one table."""

    def __str__(self) -> str:
        return format_predictions(self)


def evaluate(
    model: Recommender,
    split: Split,
    *,
    k: int = 10,
    baselines: Sequence[str] | None = None,
    resamples: int = 1000,
    ease_l2: float = EASEConfig().l2,
) -> Evaluations:
    """Ranks the full catalogue for each test user, beside the baselines on the same split.

    What a user did in the train and validation parts is the query's history, and is taken out of
    the ranking; every test event counts as relevant. Baselines are fitted on the same past.

    Args:
        model: a fitted model.
        split: its test part is evaluated.
        k: length of the list.
        baselines: any of "popularity", "item_knn", "ease", "ials"; by default those that are
            possible here: item_knn and ials need the `bench` extra, and ease a catalogue whose
            square fits into memory.
        resamples: bootstrap draws for the intervals.
        ease_l2: penalty of the EASE baseline.

    Raises:
        ValueError: for an unknown baseline, or a split without test events.
        ImportError: if a baseline needs the `bench` extra, and it isn't installed.
    """
    asked = held_out(model.spec, split.past, split.test)

    def run(scores: Any) -> Evaluation:
        return full_catalogue(
            scores,
            asked.relevant,
            asked.seen,
            k=k,
            extra_relevant=asked.outside,
            resamples=resamples,
        )

    if baselines is None:
        baselines = possible_baselines(model.spec.catalogue_size)
    results = Evaluations({model.family: run(_scores(model, asked.queries))})
    # Baselines learn from everyone's past, and are asked about the users of the test part.
    everyone = np.union1d(split.past.user_ids.astype(str), asked.users.astype(str)).astype(object)
    train = interaction_matrix(split.past, everyone, model.spec.items)
    row = np.searchsorted(everyone, asked.users)
    for name in baselines:
        found = run(_of_rows(_baseline(name, train, ease_l2), row))
        results[name if name not in results else f"{name} (baseline)"] = found
    return results


def evaluate_ranking(
    model: Recommender, split: Split, *, resamples: int = 1000, seed: int = 42
) -> Judgements:
    """Judges what a model of ratings or clicks predicts of each test event.

    What a user did in the train and validation parts is the query's history, as for `evaluate`;
    nothing of the test part is known when an event of it is asked about.

    Args:
        model: a fitted model that has `targets`.
        split: its test part is evaluated.
        resamples: bootstrap draws of users for the intervals.
        seed: of these.

    Returns:
        Of "rating" rmse, mae and calibration; of "click" auc, log_loss, accuracy, precision,
        recall, f1 (at a chance of .5), calibration and calibration_error.

    Raises:
        ValueError: if the model predicts no single events, or there are no test events.
    """
    if not model.targets:
        raise ValueError(
            f"This {model.family!r} ranks items, and predicts neither ratings nor clicks. Use "
            "`evaluate`, or train a ranker with `target`='rating' or 'click'."
        )
    test = split.test
    queries, items = event_queries(model.spec, split.past, test)
    value = test.events["value"].to_numpy()
    found = Judgements()
    for target, predicted in model.predict_events(queries, items).items():
        click = target == "click"
        labels = value >= model.config.click_threshold if click else value
        found[target] = judge_predictions(
            CLICK if click else RATING, labels, predicted, test.user_codes, resamples, seed
        )
    return found


def possible_baselines(catalogue_size: int) -> list[str]:
    """The baselines that can be fitted here; what is left out, and why, is logged."""
    possible = list(BASELINES)
    if importlib.util.find_spec("implicit") is None:
        possible = [name for name in possible if name not in ("item_knn", "ials")]
        _log.warning("item_knn and ials are left out: they need `pip install 'tfrec-meta[bench]'`.")
    if catalogue_size > _LARGE_CATALOGUE:
        possible.remove("ease")
        _log.warning(
            "ease is left out: the catalogue has %s items, too many for its matrix. "
            "Name it in `baselines` to try all the same.",
            f"{catalogue_size:,}",
        )
    return possible


def _scores(model: Recommender, queries: Mapping[str, np.ndarray]) -> RowScores:
    return lambda rows: model.score({name: value[rows] for name, value in queries.items()})


def _of_rows(scores: RowScores, row: np.ndarray) -> RowScores:
    return lambda rows: scores(row[rows])


def _baseline(name: str, seen: Any, ease_l2: float) -> Any:
    if name == "popularity":
        counts = np.asarray(seen.sum(axis=0), np.float32).ravel()
        return lambda rows: np.tile(counts, (len(rows), 1))
    if name == "ease":
        weights = ease_weights(seen, ease_l2)
        return lambda rows: np.asarray(seen[rows] @ weights)
    if name == "item_knn":
        return peers.item_knn_scores(seen)
    if name == "ials":
        return peers.ials_scores(seen)
    raise ValueError(f"No baseline {name!r}; there are {', '.join(BASELINES)}.")
