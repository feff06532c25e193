"""The base classes of families that are fitted to all events at once, without epochs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.contract import Query, Recommender


class ClosedForm(Recommender, tf.Module):
    """A family whose `fit` solves for its variables, and whose query is the history alone.

    Since the query is made inside the graph, new users are served like known ones.
    """

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)

    def has_evidence(self, query: Query) -> tf.Tensor:
        return tf.reduce_any(query["history"] > 0, axis=1)

    def state(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self._named_variables().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name, variable in self._named_variables().items():
            variable.assign(state[name])

    def _fitted(self, name: str, shape: list[int], dtype: tf.DType = tf.float32) -> tf.Variable:
        """A variable that `fit` assigns; zeros until then."""
        return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name)

    def _named_variables(self) -> dict[str, tf.Variable]:
        return {variable.name.split(":")[0]: variable for variable in self.variables}


class FactorModel(ClosedForm):
    """A closed form whose score is the dot product of a query vector and an item vector.

    Any index of inner products can serve it. The dimension d is at most the size of the catalogue.

    Attributes:
        dim: d.
        item_factors: float32 Variable [items + 1, d]; row 0 (the unknown item) is zeros.
    """

    has_embeddings = True

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(config, spec)
        self.dim = min(config.embedding_dim, max(spec.catalogue_size, 1))
        self.item_factors = self._fitted("item_factors", [len(spec.items), self.dim])

    @abstractmethod
    def query_vectors(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, d]; zeros without a history."""

    def embed_query(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, d + 1].

        The last value is 1 for a user without history, for whom the product is the prior.
        """
        unknown = 1.0 - tf.cast(self.has_evidence(query), tf.float32)
        return tf.concat([self.query_vectors(query), unknown[:, None]], axis=1)

    def embed_item(self, item: Query) -> tf.Tensor:
        """Returns float32 [B, d + 1]; the last value is the log prior. The rest is 0 for an unknown
        item."""
        rows = item["item_id"]
        prior = tf.gather(self._prior_rows(), rows)[:, None]
        return tf.concat([tf.gather(self.item_factors, rows), prior], axis=1)

    def item_embeddings(self) -> tf.Tensor:
        """Returns float32 [catalogue, d], without the prior."""
        return self.item_factors[1:]

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        vectors = self.query_vectors(query)
        if items is None:
            return tf.matmul(vectors, self.item_factors[1:], transpose_b=True)
        return tf.einsum("bd,bcd->bc", vectors, tf.gather(self.item_factors, items))
