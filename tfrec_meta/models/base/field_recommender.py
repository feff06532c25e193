"""The base class of families that represent queries and items as fields.

A field is one vector: of the history, of an id, or of one feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import Vocabulary
from tfrec_meta.io.logs import logger
from tfrec_meta.models.base.contract import Query, Recommender
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.models.layers.item_rows import mean_of_rows
from tfrec_meta.models.layers.towers import on_unit_sphere
from tfrec_meta.models.losses import event_targets

_SAME_UNIT = (
    10.0  # a warm start keeps the rating scale if the spread moved by less than this factor
)
_log = logger(__name__)


class FieldRecommender(TrainableRecommender):
    """Builds the fields of queries and items, and their biases.

    The fields of a query are the mean of the history's item embeddings, scaled to length 1; the
    user, with `user_id`; and each feature, with `user_features`. The fields of an item are its id
    and, with `item_features`, each feature. Fields without a value are zeros.

    Attributes:
        item_bias: float32 Variable [items, ...], the bias of each item.
        user_bias: float32 Variable [users, ...], the bias of each user; None without `user_id`.
        usual: float32 Variable [...], the log odds of a click in the data; 0 for ratings.
        rating_scale: float32 Variable [2], the mean and the spread of the ratings in the data.
    """

    item_bias: tf.Variable
    user_bias: tf.Variable | None
    usual: tf.Variable
    rating_scale: tf.Variable

    def add_biases(self, shape: Sequence[int], item_name: str = "item_bias") -> None:
        """Creates the biases.

        Args:
            shape: of one bias.
            item_name: name of the item biases. Weight decay spares those named "item_bias".
        """
        items, users = len(self.spec.items), len(self.spec.users)
        self.item_bias = self.add_weight(name=item_name, shape=[items, *shape], initializer="zeros")
        self.user_bias = (
            self.add_weight(name="user_bias", shape=[users, *shape], initializer="zeros")
            if self.config.user_id
            else None
        )
        self.usual = tf.Variable(tf.zeros(shape), trainable=False, name="usual")
        self.rating_scale = tf.Variable([0.0, 1.0], trainable=False, name="rating_scale")

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        super().prepare(data)
        if "rating" in self.targets:
            self.rating_scale.assign(event_targets.rating_scale(data))

    def warm_start(self, earlier: Recommender) -> None:
        super().warm_start(earlier)
        if "rating" not in self.targets:
            return
        assert isinstance(earlier, FieldRecommender)
        # The weights were learned in the earlier scale. With it, training goes on from the earlier
        # predictions. In another unit only the new scale makes sense.
        (_, own), (_, before) = self.rating_scale.numpy(), earlier.rating_scale.numpy()
        if max(own / before, before / own) <= _SAME_UNIT:
            self.rating_scale.assign(earlier.rating_scale)
        else:
            _log.warning(
                "The ratings have a standard deviation of %.4g, those of the earlier model had "
                "%.4g. They are treated as ratings in another unit.",
                *(own, before),
            )

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        found = {**super().rows_of_tokens(), "item_bias": (self.item_bias, self.spec.items)}
        if self.user_bias is not None:
            found["user_bias"] = (self.user_bias, self.spec.users)
        return found

    def has_evidence(self, query: Query) -> tf.Tensor:
        """Returns bool [B]; always True for a model that ranks by ratings or clicks.

        The usual rating and the bias of the item are evidence for every user.
        """
        if self.objective is not Objective.NDCG:
            return tf.ones([tf.shape(query["user_id"])[0]], tf.bool)
        return super().has_evidence(query)

    @property
    def query_width(self) -> int:
        """The width of `query_fields`."""
        count = int(self.config.user_id) + 1 + len(self._query_features)
        return count * self.config.embedding_dim

    @property
    def item_width(self) -> int:
        """The width of `item_fields`."""
        return (1 + len(self._item_features)) * self.config.embedding_dim

    def query_fields(self, query: Query) -> tf.Tensor:
        """Returns the fields of queries side by side, float32 [B, query_width]."""
        history = mean_of_rows(query["history"], self.item_embedding)
        fields = [on_unit_sphere(history)]
        if self.user_embedding is not None:
            fields.append(self._user_vectors(query["user_id"]))
        if self._query_features:
            known = self._with_known_features(query)
            fields += self.query_sum.vectors(known, self.step_options.compiled)
        return tf.concat(fields, axis=1)

    def item_fields(self, item: Query) -> tf.Tensor:
        """Returns the fields of items side by side, float32 [n, item_width].

        Args:
            item: `item_id` int32 [n] and the encoding of each item feature.
        """
        fields = [self._item_vectors_by_id(item["item_id"])]
        if self._item_features:
            fields += self.item_sum.vectors(item, self.step_options.compiled)
        return tf.concat(fields, axis=1)
