"""The interface of a teacher: what a student model needs from the model it is distilled from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec_meta.features import FeatureSpec

Query = Mapping[str, tf.Tensor]
"""A batch of encoded queries: `user_id` int32 [B], `history` int32 [B, H] (0 pads) and the encoding
of each query feature of a FeatureSpec."""


class Teacher(ABC):
    """Scores the whole catalogue for a batch of queries.

    A fitted model of any family is a teacher. Other teachers, as the mean of several models, are
    classes of `tfrec_meta.distillation`.

    Attributes:
        spec: the fitted FeatureSpec that defines users, items and query features.
        has_embeddings: whether the teacher has one embedding per item.
        members: the teachers that this one consists of; empty for most.
    """

    spec: FeatureSpec
    has_embeddings: bool = False
    members: Sequence[Teacher] = ()

    @abstractmethod
    def logits_or_prior(self, query: Query) -> tf.Tensor:
        """Returns the scores of the catalogue.

        Returns:
            float32 [B, catalogue]; column j belongs to the item of row j + 1.
        """

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Returns all learned arrays by name. They identify the teacher when a training resumes."""

    def item_embeddings(self) -> tf.Tensor:
        """Returns the item embeddings, float32 [catalogue, d].

        Raises:
            NotImplementedError: if the teacher has none; see `has_embeddings`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no item embeddings. Check `has_embeddings` first."
        )
