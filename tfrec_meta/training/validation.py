"""Validation: the metrics of a model on held-out events, for early stopping and model selection."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation import full_catalogue, metrics
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import event_queries, held_out
from tfrec_meta.models.base.contract import Recommender

_VALIDATION_USERS = 20_000  # precise enough to compare epochs; more would slow large data sets down


class Validation:
    """Measures models on held-out events by the metrics that they are made for.

    The metrics are NDCG@10 and recall@10 over the full catalogue. Models that predict ratings or
    clicks have the RMSE or AUC of single events instead; they have the ranking metrics, too, if
    their objective is NDCG@10. Of more than 20,000 users, a random sample is evaluated, the same in
    each epoch.

    Args:
        spec: the fitted FeatureSpec of all models to be measured.
        data: the training events.
        validation: the held-out events.
        seed: seed of the sample of users.
        recommend_history: whether items of the users' histories are ranked like all others.

    Attributes:
        events: the held-out events.
        recommend_history: the argument.
        has_relevant_items: whether any held-out event has an item of the catalogue. Without one,
            every model would score 0.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        data: Interactions | StreamedInteractions,
        validation: Interactions,
        seed: int,
        recommend_history: bool = False,
    ):
        self.events = validation
        self.recommend_history = recommend_history
        users = validation.user_ids
        if len(users) > _VALIDATION_USERS:
            users = np.random.default_rng(seed).choice(users, _VALIDATION_USERS, replace=False)
        self._spec = spec
        self._past = data if isinstance(data, Interactions) else data.of_users(users)
        self._held_out = held_out(spec, self._past, validation, users)
        self.has_relevant_items = self._held_out.relevant.nnz > 0

    def __len__(self) -> int:
        return len(self.events)

    def metrics(self, model: Recommender) -> dict[str, float]:
        """Returns those of `val_ndcg@10`, `val_recall@10`, `val_rmse` and `val_auc` that apply."""
        model.refresh()
        found = self._prediction_metrics(model) if model.targets else {}
        return found | (self._ranking_metrics(model) if model.objective is Objective.NDCG else {})

    def _ranking_metrics(self, model: Recommender) -> dict[str, float]:
        queries = self._held_out.queries
        result = full_catalogue(
            lambda rows: model.score({k: v[rows] for k, v in queries.items()}),
            self._held_out.relevant,
            self._held_out.seen,
            k=min(10, model.spec.catalogue_size),
            metrics=("ndcg", "recall"),
            extra_relevant=self._held_out.outside,
            recommend_history=self.recommend_history,
            resamples=0,
        )
        return {
            f"val_{name.split('@')[0]}@10": estimate.value
            for name, estimate in result.metrics.items()
        }

    def _prediction_metrics(self, model: Recommender) -> dict[str, float]:
        queries, items, value = self._single_events
        found = model.predict_events(queries, items)
        result: dict[str, float] = {}
        if "rating" in found:
            result[Objective.RMSE] = metrics.rmse(model.observed("rating", value), found["rating"])
        if "click" in found:
            clicks = model.observed("click", value)
            result[Objective.AUC] = metrics.binary_auc(clicks, found["click"])
        return result

    @functools.cached_property
    def _single_events(self) -> tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray]:
        """Queries, item rows and values of the events of the evaluated users."""
        evaluated = np.isin(self.events.user_ids.astype(str), self._held_out.users.astype(str))
        events = self.events.take(np.flatnonzero(evaluated[self.events.user_codes]))
        queries, items = event_queries(self._spec, self._past, events)
        return queries, items, events.events["value"].to_numpy()


def usable_validation(
    validation: Interactions | Validation | None,
    spec: FeatureSpec,
    data: Interactions | StreamedInteractions,
    seed: int,
    recommend_history: bool = False,
) -> Validation | None:
    """Returns a `Validation`, or None if no validation event has an item of the catalogue.

    Args:
        validation: held-out events, an existing `Validation`, or None.
        spec: the fitted FeatureSpec of the model.
        data: the training events.
        seed: seed of the sample of users.
        recommend_history: as in `Validation`; an existing one keeps its own.
    """
    if validation is None or not len(validation):
        return None
    if isinstance(validation, Interactions):
        validation = Validation(spec, data, validation, seed, recommend_history)
    return validation if validation.has_relevant_items else None
