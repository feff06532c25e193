"""The base class of families that are trained in gradient steps: the step, warm starts and feature
tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.features import Category, FeatureSpec, Text, Vocabulary
from tfrec_meta.features.kinds import Feature
from tfrec_meta.features.spec import Side
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import (
    Query,
    Recommender,
    UserIds,
    WarmStartError,
    event_counts,
)
from tfrec_meta.models.base.step import StepOptions, loss_and_gradients
from tfrec_meta.models.layers.towers import FeatureSum, is_present

_CHUNK = 65_536  # item rows


class TrainableRecommender(Recommender, tfrs.Model):
    """A family that `training.fit` trains by steps; it adds `compute_loss` to the contract.

    Args:
        config: with `embedding_dim`, `user_id`, `user_features` and `item_features`.
        spec: a fitted FeatureSpec.

    Attributes:
        item_embedding: float32 Variable [items, embedding_dim]; None where `has_item_ids` is False.
        user_embedding: float32 Variable [users, embedding_dim]; None without `user_id`.
        user_counts: float32 Variable [users], events per user in the training data; only with
            `user_id`.
        query_sum: the embeddings of the query features.
        item_sum: the embeddings of the item features.
        user_table: the encoded features of all users, so that batches contain rows only.
        item_table: the encoded features of all items.
        step_options: the part of the training recipe that shapes a step.
        part_of_step: the number of the batch of the step that is being differentiated.
        warm_start_fields: config fields that an earlier model must share for a warm start.
        has_item_ids: whether an item has an embedding of its own in addition to those of its
            features.
        reads_windows: whether the family can be trained on windows of events (`rows`="windows").
    """

    trains_by_steps: ClassVar[bool] = True
    fits_streams: ClassVar[bool] = True
    has_item_ids: ClassVar[bool] = True
    reads_windows: ClassVar[bool] = False
    warm_start_fields: ClassVar[tuple[str, ...]] = ("embedding_dim",)

    fit = tfrs.Model.fit  # the training loop of Keras, which `training.fit` calls

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
        self._row_counts: tf.Tensor | None = None

    @property
    def user_ids(self) -> UserIds:
        if self.user_embedding is not None:
            return UserIds.EMBEDDING
        return UserIds.FEATURES if self.user_table else UserIds.UNUSED

    @property
    def query_features(self) -> frozenset[Feature]:
        return frozenset(self._query_features)

    # Training.

    @property
    def sampling_counts(self) -> tf.Tensor:
        """float32 [catalogue], how often each item is the positive item of a training row.

        In-batch negatives are sampled with these frequencies, whatever the weights of the events.
        """
        return self.item_counts if self._row_counts is None else self._row_counts

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        """Computes what is counted and not learned by steps: popularity and feature tables."""
        self.observe(data)
        if self.user_embedding is not None:
            # Known negatives train the embedding of their user, too.
            counted = data if self.targets else data.counted_events()
            counts = event_counts(counted, "user_id", self.spec.users)
            counts[0] = 0  # row 0 is no user in particular
            self.user_counts.assign(counts.astype(np.float32))
        if data.feedback is not None and not self.targets:
            rows = event_counts(data, "item_id", self.spec.items, "positive")[1:]
            self._row_counts = tf.constant(rows, tf.float32)
        for table, encoded in (
            (self.user_table, self.spec.encode_users(data.users)),
            (self.item_table, self.spec.encode_items(data.items)),
        ):
            for name, variable in table.items():
                variable.assign(encoded[name])

    def check_rows(self, rows: str, batch_size: int, windows_per_batch: int) -> None:
        """Checks that the family can learn from the training rows of a recipe.

        Args:
            rows: "events" or "windows", see `TrainingConfig.rows`.
            batch_size: events per batch.
            windows_per_batch: rows per batch.

        Raises:
            ValueError: if it cannot.
        """
        if rows == "windows" and not self.reads_windows:
            raise ValueError(
                "`rows`='windows' trains two-tower models with a history encoder, and this model "
                f"is of family {self.family!r}. Use `rows`='events'."
            )

    def refuse_windows(self, inputs: Query) -> None:
        """Raises ValueError for a batch of windows of events, see `check_rows`."""
        if inputs["item_id"].shape.rank == 2:
            self.check_rows("windows", 0, 0)

    def history_window(self, rows: str, length: int) -> int:
        """Returns how many items of a history the model reads in training.

        Args:
            rows: "events" or "windows", see `TrainingConfig.rows`.
            length: items of a history by the recipe and the FeatureSpec.

        Returns:
            `length` or less.
        """
        return length

    @abstractmethod
    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """Returns the loss of a batch of events, float32 scalar.

        Args:
            inputs: an encoded query batch, `item_id` int32 [B], the item of each event, and
                optionally `sample_weight` float32 [B] and `feedback` float32 [B], the weight of
                each event, below 0 for known negatives.
            training: whether dropout is applied and new negatives are sampled.
        """

    def train_step(self, inputs: Query) -> dict[str, tf.Tensor]:
        """Runs one step of the recipe; the reported loss is the mean since the epoch began."""
        options = self.step_options

        def part_loss(number: int) -> tf.Tensor:
            self.part_of_step = number
            part = inputs
            if options.accumulation > 1:
                part = {name: value[number] for name, value in inputs.items()}
            loss = self.compute_loss(part, training=True)
            if self.losses:  # regularisers of layers
                loss += tf.add_n(self.losses)
            return loss

        tables = [table for table, _ in self.rows_of_tokens().values() if table.shape.rank == 2]
        variables = self.trainable_variables
        loss, gradients = loss_and_gradients(part_loss, variables, tables, options)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.after_step(inputs)
        self.mean_loss.update_state(loss)
        return {"loss": self.mean_loss.result()}

    def after_step(self, inputs: Query) -> None:
        """Runs after the weights are updated; by default nothing.

        Args:
            inputs: of the step.
        """

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """The metrics that Keras resets at each epoch."""
        return [self.mean_loss]

    # Warm starts.

    def warm_start(self, earlier: Recommender) -> None:
        """Takes the weights of an earlier model; call it after `prepare`.

        Embeddings and biases are matched by token, whatever their rows. Layers are copied where
        both models have them in one shape. Event counts are those of the new data; where it has
        none, the earlier counts stay, so that embeddings that were learned remain in use.

        Args:
            earlier: a fitted model of the same family.

        Raises:
            WarmStartError: if the earlier model has another family, or one of `warm_start_fields`
                differs.
        """
        if not isinstance(earlier, type(self)):
            raise WarmStartError(
                f"A {self.family!r} cannot start from a {earlier.family!r}. Leave out "
                "`warm_start`, or train the family of the earlier model."
            )
        for name in self.warm_start_fields:
            own, before = getattr(self.config, name), getattr(earlier.config, name)
            if own != before:
                raise WarmStartError(
                    f"`{name}`={own!r} cannot start from {before!r}. Leave out `warm_start`, or "
                    "train a model of that shape."
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
            # Whole layers only: a bias has no meaning without its kernel.
            if [w.shape for w in before] == [w.shape for w in weights]:
                for weight, old in zip(weights, before, strict=True):
                    weight.assign(old)

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        """Returns the learned tables with one row per token, and their vocabularies, by name.

        A family adds its own tables.
        """
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
        """Returns all other learned weights, by the layer that they belong to.

        A family adds its own layers.
        """
        found = {}
        for side, tower in self._feature_sums():
            for feature, table in tower.tables():
                if not isinstance(feature, Category | Text):
                    # The weight of a number depends on its scale, which the statistics define.
                    scale = self.spec.statistics.get(self.spec.key(feature, side))
                    found[f"{side} {feature!r} {scale}"] = [table]
        return found

    def _feature_sums(self) -> tuple[tuple[Side, FeatureSum], ...]:
        return ("query", self.query_sum), ("item", self.item_sum)

    # The contract.

    def state(self) -> dict[str, np.ndarray]:
        return {f"{i}/{v.name}": v.numpy() for i, v in enumerate(self._saved_weights())}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        # By position: TFRS has layers without a name, which Keras numbers process-wide.
        found = {name.partition("/")[0]: name for name in state}
        for i, variable in enumerate(self._saved_weights()):
            variable.assign(state[found[str(i)]])

    # Parts of a family.

    def _saved_weights(self) -> list[tf.Variable]:
        """The weights of a saved model: all except those that only training needs."""
        left_out = {id(v) for v in (*self.mean_loss.weights, *self.training_only())}
        return [variable for variable in self.weights if id(variable) not in left_out]

    def training_only(self) -> Sequence[tf.Variable]:
        """Returns weights that only the next training step needs; they are not saved."""
        return ()

    def _over_catalogue(
        self, function: Callable[[tf.Tensor], tf.Tensor], axis: int = 0
    ) -> tf.Tensor:
        """The values of a function of item rows int32 [n] for all rows, computed in chunks.

        Args:
            function: item rows to a tensor with the rows along `axis`.
            axis: of the rows.
        """
        rows = tf.range(len(self.spec.items))
        parts = [function(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)]
        return tf.concat(parts, axis=axis)

    def _table(self, name: str, rows: int) -> tf.Variable:
        initializer = tf_keras.initializers.RandomNormal(stddev=self.config.embedding_dim**-0.5)
        shape = [rows, self.config.embedding_dim]
        return cast(tf.Variable, self.add_weight(name=name, shape=shape, initializer=initializer))

    def _user_vectors(self, users: tf.Tensor) -> tf.Tensor:
        """float32 [B, embedding_dim], zeros for users without training events; with `user_id`."""
        known = tf.cast(self._has_user_events(users), tf.float32)[:, None]
        return known * tf.gather(self.user_embedding, users)

    def _item_vectors_by_id(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 [n, embedding_dim], zeros for items without training events."""
        return self._has_item_events(rows)[:, None] * tf.gather(self.item_embedding, rows)

    def _draw(self) -> tf.Tensor:
        """int64 [2], a seed for each batch of each step; a resumed training gets the same seeds."""
        part = tf.constant(self.part_of_step, tf.int64)
        return tf.stack([part, tf.cast(self.optimizer.iterations, tf.int64)])

    def _known_item(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The encoded features of items, for item rows int32 of any shape."""
        item = {name: tf.gather(table, rows) for name, table in self.item_table.items()}
        return {"item_id": rows, **item}

    def _has_item_events(self, rows: tf.Tensor) -> tf.Tensor:
        """float32 like `rows`: 1 where training had events of the item, else 0.

        An item without training events still has its random initial embedding, so its features
        alone are used.
        """
        known = tf.gather(self.item_counts, tf.maximum(rows - 1, 0)) > 0
        return tf.cast(known & (rows > 0), tf.float32)

    def _has_user_events(self, users: tf.Tensor) -> tf.Tensor:
        """bool [B], whether training had events of these users."""
        return tf.gather(self.user_counts, users) > 0

    def _with_known_features(self, query: Query) -> dict[str, tf.Tensor]:
        """Fills in features that the query leaves out, from the users table of the training."""
        filled = dict(query)
        for feature in self._query_features:
            if feature.name not in self.user_table:  # a feature of the event, not of the user
                continue
            table = tf.gather(self.user_table[feature.name], query["user_id"])
            value = query.get(feature.name, tf.zeros_like(table))
            filled[feature.name] = tf.where(is_present(value), value, table)
        return filled

    def has_evidence(self, query: Query) -> tf.Tensor:
        known = tf.reduce_any(query["history"] > 0, axis=1)
        return known | self._evidence_without_history(query)

    def _evidence_without_history(self, query: Query) -> tf.Tensor:
        """bool [B], whether the user has a known id or a feature."""
        known = tf.zeros([tf.shape(query["user_id"])[0]], tf.bool)
        if self.user_embedding is not None:
            known |= self._has_user_events(query["user_id"])
        filled = self._with_known_features(query)
        for feature in self._query_features:
            known |= is_present(filled[feature.name])[:, 0]
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
    """`own` with the rows of `earlier` for all tokens that both vocabularies have, and row 0."""
    rows = known.encode(vocabulary.tokens)
    found = np.flatnonzero(rows)
    result = own.copy()
    result[0] = earlier[0]
    result[found + 1] = earlier[rows[found]]
    return result
