"""What families that are trained by steps share: the step, warm starts, and known features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.features import Category, FeatureSpec, Text, Vocabulary
from tfrec_meta.features.kinds import Feature
from tfrec_meta.features.spec import Side
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Query, Recommender, WarmStartError, event_counts
from tfrec_meta.models.base.step import StepOptions, loss_and_gradients
from tfrec_meta.models.layers.towers import FeatureSum, is_present


class TrainableRecommender(Recommender, tfrs.Model):
    """A family that `training.train` trains; it adds `compute_loss` to the contract.

    Args:
        config: with `embedding_dim`, `user_id`, `user_features` and `item_features`.
        spec: a fitted FeatureSpec.

    Attributes:
        item_embedding: float32 Variable [items, embedding_dim]; None where `has_item_ids` is False.
        user_embedding: float32 Variable [users, embedding_dim]; None without `user_id`.
        user_counts: float32 Variable [users], events of each user in the training data; only with
            `user_id`.
        query_sum: the embeddings of the query's features.
        item_sum: likewise, of the item's.
        user_table: what is known of each user's features, so that batches carry rows only.
        item_table: likewise, of items.
        step_options: what of the recipe shapes a step.
        part_of_step: which of its batches is being differentiated.
        warm_start_fields: of the config; what they say decides what the weights mean.
        has_item_ids: whether an item has an embedding of its own, beside those of its features.
    """

    has_item_ids: ClassVar[bool] = True
    warm_start_fields: ClassVar[tuple[str, ...]] = ("embedding_dim",)

    def __init__(self, config: Any, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        self.item_embedding: Any = None
        if self.has_item_ids:
            self.item_embedding = self._table("item_embedding", len(spec.items))
        self.user_embedding = None
        if config.user_id:
            self.user_embedding = self._table("user_embedding", len(spec.users))
            self.user_counts = tf.Variable(
                tf.zeros([len(spec.users)]), trainable=False, name="user_counts"
            )
        self._query_features = spec.query if config.user_features else ()
        self._item_features = spec.item if config.item_features else ()
        dim = config.embedding_dim
        self.query_sum = FeatureSum(self._query_features, spec, dim, "query")
        self.item_sum = FeatureSum(self._item_features, spec, dim, "item")
        self.user_table = _constants(spec.encode_users(None), self._query_features)
        self.item_table = _constants(spec.encode_items(None), self._item_features)
        self.mean_loss = tf_keras.metrics.Mean(name="loss")
        self.step_options = StepOptions()
        self.part_of_step = 0

    # Training.

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        """Takes in what is counted, not learned by steps: popularity and the feature tables."""
        self.observe(data)
        if self.user_embedding is not None:
            counts = event_counts(data, "user_id", self.spec.users)
            counts[0] = 0  # nobody in particular
            self.user_counts.assign(counts.astype(np.float32))
        for table, encoded in (
            (self.user_table, self.spec.encode_users(data.users)),
            (self.item_table, self.spec.encode_items(data.items)),
        ):
            for name, variable in table.items():
                variable.assign(encoded[name])

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """The loss of a batch of events, float32 scalar.

        Args:
            inputs: an encoded query batch, the `item_id` int32 [B] that each user chose, and
                optionally a `sample_weight` float32 [B] of each event.
            training: whether there is dropout.
        """
        # A family's own; `abc.ABC` would clash with the metaclass of tf.Module.
        raise NotImplementedError

    def train_step(self, inputs: Query) -> dict[str, tf.Tensor]:
        """A step by the recipe; the loss that it reports is the mean since the epoch began."""
        loss, gradients = loss_and_gradients(self, inputs, self.step_options)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.after_step(inputs)
        self.mean_loss.update_state(loss)
        return {"loss": self.mean_loss.result()}

    def after_step(self, inputs: Query) -> None:
        """What a family takes in of a step's inputs once the weights are updated, if anything."""

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """Reset by Keras at each epoch."""
        return [self.mean_loss]

    def refresh(self) -> None:
        """Recomputes what scoring reads instead of the weights; after training, if anything."""

    # Warm starts.

    def warm_start(self, earlier: Recommender) -> None:
        """See the contract; to be called after `prepare`.

        Embeddings and biases are matched by token, whatever their rows; layers are taken over
        where both models have them in one shape. Counts stay those of the data, but for what this
        data lacks and the earlier one had: it was learned, and stays in use.
        """
        if not isinstance(earlier, type(self)):
            raise WarmStartError(
                f"A {self.family!r} can't go on from a {earlier.family!r}. Leave out `warm_start`, "
                "or train the family of the earlier model."
            )
        for name in self.warm_start_fields:
            own, before = getattr(self.config, name), getattr(earlier.config, name)
            if own != before:
                raise WarmStartError(
                    f"`{name}`={own!r} can't go on from {before!r}. Leave out `warm_start`, or "
                    "train in that shape."
                )
        tables = earlier.rows_of_tokens()
        for name, (table, vocabulary) in self.rows_of_tokens().items():
            if name in tables:
                known = tables[name][1]
                table.assign(_matched(table.numpy(), vocabulary, tables[name][0].numpy(), known))
        items, users = (self.spec.items, earlier.spec.items), (self.spec.users, earlier.spec.users)
        own, old = (np.append(0, model.item_counts.numpy()) for model in (self, earlier))
        self.item_counts.assign(np.where(own > 0, own, _matched(own, items[0], old, items[1]))[1:])
        if self.user_embedding is not None and earlier.user_embedding is not None:
            own, old = (model.user_counts.numpy() for model in (self, earlier))
            self.user_counts.assign(np.where(own > 0, own, _matched(own, users[0], old, users[1])))
        others = earlier.other_weights()
        for part, weights in self.other_weights().items():
            before = others.get(part, [])
            # Whole parts only: the shift of a layer means nothing without its kernel.
            if [w.shape for w in before] == [w.shape for w in weights]:
                for weight, old in zip(weights, before, strict=True):
                    weight.assign(old)

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        """Learned tables with a row a token, and these tokens; a family adds its own."""
        found = {}
        if self.item_embedding is not None:
            found["item_embedding"] = (self.item_embedding, self.spec.items)
        if self.user_embedding is not None:
            found["user_embedding"] = (self.user_embedding, self.spec.users)
        for side, tower in self._feature_sums():
            for feature, table in tower.tables():
                if isinstance(feature, Category | Text):
                    vocabulary = self.spec.vocabularies[self.spec.key(feature, side)]
                    found[f"{side}.{feature.name}"] = (table, vocabulary)
        return found

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        """All other learned weights, by the part that they play; a family adds its own."""
        found = {}
        for side, tower in self._feature_sums():
            for feature, table in tower.tables():
                if not isinstance(feature, Category | Text):
                    # A weight of a number is of its scale, which the statistics are.
                    scale = self.spec.statistics.get(self.spec.key(feature, side))
                    found[f"{side} {feature!r} {scale}"] = [table]
        return found

    def _feature_sums(self) -> tuple[tuple[Side, FeatureSum], ...]:
        return ("query", self.query_sum), ("item", self.item_sum)

    # The contract.

    def state(self) -> dict[str, np.ndarray]:
        return {f"{i}/{v.name}": v.numpy() for i, v in enumerate(self._kept())}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        # By place: Keras numbers nameless layers, of which TFRS has some, through the process.
        found = {name.partition("/")[0]: name for name in state}
        for i, variable in enumerate(self._kept()):
            variable.assign(state[found[str(i)]])

    # Parts of a family.

    def _kept(self) -> list[tf.Variable]:
        """What a saved model holds: all but what only training needs."""
        left_out = {id(v) for v in (*self.mean_loss.weights, *self.training_only())}
        return [variable for variable in self.weights if id(variable) not in left_out]

    def training_only(self) -> Sequence[tf.Variable]:
        """What a family keeps for the next step alone."""
        return ()

    def _table(self, name: str, rows: int) -> tf.Variable:
        initializer = tf_keras.initializers.RandomNormal(stddev=self.config.embedding_dim**-0.5)
        shape = [rows, self.config.embedding_dim]
        return cast(tf.Variable, self.add_weight(name=name, shape=shape, initializer=initializer))

    def _user_vectors(self, users: tf.Tensor) -> tf.Tensor:
        """float32 [B, embedding_dim], zeros of users whom training never met; with `user_id`."""
        known = tf.cast(self._met_user(users), tf.float32)[:, None]
        return known * tf.gather(self.user_embedding, users)

    def _item_vectors_by_id(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 [n, embedding_dim], zeros of items that training never met."""
        return self._met_item(rows)[:, None] * tf.gather(self.item_embedding, rows)

    def _draw(self) -> tf.Tensor:
        """int64 [2], other numbers for each batch of each step; the same again after a resume."""
        part = tf.constant(self.part_of_step, tf.int64)
        return tf.stack([part, tf.cast(self.optimizer.iterations, tf.int64)])

    def _known_item(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The encoded features of known items, for item rows int32 of any shape."""
        item = {name: tf.gather(table, rows) for name, table in self.item_table.items()}
        return {"item_id": rows, **item}

    def _met_item(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 like `rows`: 1 where training had events of the item, else 0.

        What training never met has its initial, random embedding: content alone speaks for it.
        """
        known = tf.gather(self.item_counts, tf.maximum(rows - 1, 0)) > 0
        return tf.cast(known & (rows > 0), tf.float32)

    def _met_user(self, users: tf.Tensor) -> tf.Tensor:
        """bool [B], whether training had events of these users."""
        return tf.gather(self.user_counts, users) > 0

    def _with_known_features(self, query: Query) -> dict[str, tf.Tensor]:
        """Fills features that the query leaves out with what the users table said at training."""
        filled = dict(query)
        for feature in self._query_features:
            if feature.name not in self.user_table:  # of the event, not of the user
                continue
            table = tf.gather(self.user_table[feature.name], query["user_id"])
            value = query.get(feature.name, tf.zeros_like(table))
            filled[feature.name] = tf.where(is_present(feature, value), value, table)
        return filled

    def has_evidence(self, query: Query) -> tf.Tensor:
        known = tf.reduce_any(query["history"] > 0, axis=1)
        return known | self._evidence_beside_history(query)

    def _evidence_beside_history(self, query: Query) -> tf.Tensor:
        """bool [B], whether id or features tell something of the user."""
        known = tf.zeros([tf.shape(query["user_id"])[0]], tf.bool)
        if self.user_embedding is not None:
            known |= self._met_user(query["user_id"])
        filled = self._with_known_features(query)
        for feature in self._query_features:
            known |= is_present(feature, filled[feature.name])[:, 0]
        return known


def _constants(
    encoded: Mapping[str, np.ndarray], features: Sequence[Feature]
) -> dict[str, tf.Variable]:
    return {
        f.name: tf.Variable(encoded[f.name], trainable=False, name=f"table_{f.name}")
        for f in features
        if f.name in encoded
    }


def _matched(
    own: np.ndarray, vocabulary: Vocabulary, earlier: np.ndarray, known: Vocabulary
) -> np.ndarray:
    """`own` with the rows of `earlier` wherever its vocabulary has the token; row 0 with row 0."""
    rows = known.encode(vocabulary.tokens)
    found = np.flatnonzero(rows)
    result = own.copy()
    result[0] = earlier[0]
    result[found + 1] = earlier[rows[found]]
    return result
