"""Models without gradient steps: popularity and EASE."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import interaction_matrix
from tfrec_meta.models.base.contract import Query, Recommender
from tfrec_meta.models.layers.towers import multi_hot


def ease_weights(interactions: scipy.sparse.csr_matrix, l2: float) -> np.ndarray:
    """Item-to-item weights of the linear autoencoder with a zero diagonal.

    Args:
        interactions: [users, items], 1 where the user touched the item.
        l2: ridge penalty, above 0.

    Returns:
        float32 [items, items]: scores are `interactions @ weights`.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8.
    """
    gram = (interactions.T @ interactions).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def each_item_once(history: tf.Tensor) -> tf.Tensor:
    """Blanks repeats: what counts is that an item was chosen, not how often.

    Args:
        history: int32 [B, H], 0 pads.

    Returns:
        int32 [B, H], the distinct items of each row in rising order, with 0 anywhere between.
    """
    ordered = tf.sort(history, axis=1)
    before = tf.pad(ordered, [[0, 0], [1, 0]])[:, :-1]
    return tf.where(ordered == before, 0, ordered)


@dataclasses.dataclass(frozen=True)
class PopularityConfig:
    """Popularity has nothing to set."""


class Popularity(Recommender, tf.Module):
    """The same items for everyone: how often each was chosen in the training data."""

    family = "popularity"
    config_type = PopularityConfig

    def __init__(self, config: PopularityConfig, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)

    def fit(self, data: Interactions) -> None:
        """Counts."""
        self.observe(data)

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        prior = self._prior_logits()
        if items is not None:
            return tf.gather(tf.concat([tf.reduce_min(prior, keepdims=True), prior], 0), items)
        return tf.tile(prior[None, :], [tf.shape(query["user_id"])[0], 1])

    def has_evidence(self, query: Query) -> tf.Tensor:
        return tf.zeros_like(query["user_id"], tf.bool)

    def state(self) -> dict[str, np.ndarray]:
        return {"item_counts": self.item_counts.numpy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.item_counts.assign(state["item_counts"])


@dataclasses.dataclass(frozen=True)
class EASEConfig:
    """
    Args:
        l2: ridge penalty; more for sparser data.
    """

    l2: float = 400.0

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise ValueError(f"`l2`={self.l2}; use a number above 0, or the inverse may not exist.")


class EASE(Recommender, tf.Module):
    """A linear autoencoder of the history with zero diagonal, in closed form.

    Memory and time grow with the square and the cube of the catalogue: at home below some 20,000
    items. Source: see `ease_weights`.
    """

    family = "ease"
    config_type = EASEConfig

    def __init__(self, config: EASEConfig, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        size = spec.catalogue_size
        self.weights = tf.Variable(tf.zeros([size, size]), trainable=False, name="weights")

    def fit(self, data: Interactions) -> None:
        """Solves for the weights."""
        self.observe(data)
        matrix = interaction_matrix(data, data.user_ids, self.spec.items)
        self.weights.assign(ease_weights(matrix, self.config.l2))

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        seen = multi_hot(query["history"], len(self.spec.items))[:, 1:]
        scores = tf.matmul(tf.minimum(seen, 1.0), self.weights)
        if items is None:
            return scores
        unknown = tf.zeros_like(scores[:, :1])
        return tf.gather(tf.concat([unknown, scores], axis=1), items, batch_dims=1)

    def has_evidence(self, query: Query) -> tf.Tensor:
        return tf.reduce_any(query["history"] > 0, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        return {"item_counts": self.item_counts.numpy(), "weights": self.weights.numpy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.item_counts.assign(state["item_counts"])
        self.weights.assign(state["weights"])

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract."""
        l2 = hp.Float("l2", 1.0, 10_000.0, sampling="log", default=EASEConfig().l2)
        return {"model": {"l2": l2}, "training": {}}
