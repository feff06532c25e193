"""The meta-learned ranker: it adapts to each user from a few rated items and content features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import (
    FiniteNonNegativeFloat,
    FinitePositiveFloat,
    PositiveInt,
    Width,
    at_least,
    check_fields,
    one_of,
)
from tfrec_meta.data import Interactions
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.kinds import Feature
from tfrec_meta.features.spec import empty_feature
from tfrec_meta.models.adaptation.learners import LEARNERS, Examples, LearnerConfig, RidgeHead
from tfrec_meta.models.adaptation.networks import TaskNetwork
from tfrec_meta.models.base.contract import Query, Recommender
from tfrec_meta.models.layers.catalogue_blocks import score_in_blocks
from tfrec_meta.models.layers.item_rows import last_occurrences, without_repeats
from tfrec_meta.models.layers.towers import FeatureSum, is_present
from tfrec_meta.models.losses import event_targets

# Pairs of a user and an item that are scored at once; each takes one or two hundred numbers.
_PAIRS_PER_BLOCK = 1 << 16
_PRIOR_EVENTS = 5.0  # events with the usual label that are added to each item's mean


@dataclasses.dataclass(frozen=True)
class MetaRankerConfig:
    """The config of `MetaRanker`: its target, its network and its adaptation.

    Args:
        target: "rating" predicts values; "click" predicts whether a value is `click_threshold` or
            more; "interaction" separates the items of events from sampled items.
        learner: a key of `metalearning.LEARNERS`. "ridge" uses the squared error for every target;
            the others use the log loss for clicks and interactions.
        inner_steps: gradient steps on a support set.
        inner_rate: their learning rate; the initial one, where it is learned.
        l2: initial penalty of "ridge".
        hidden: widths of the dense layers below the head.
        embedding_dim: d, of each field.
        item_id: whether the item id is a field.
        item_statistics: whether the item's mean label and number of events are fields.
        shots: lowest and highest number of events of a support set in meta-training.
        query: largest number of query events of a user in one step of meta-training.
        negatives: sampled items that are added to the query events, for "interaction".
        order: "random" samples both sets from all events of a user; "time" uses the first events as
            support set.
        folds: parts of the users. In meta-training, item statistics come from the other folds.
        steps: steps of meta-training; 0 keeps the initial weights.
        tasks_per_step: users per step.
        learning_rate: of meta-training (AdamW); it falls to 0 along a cosine.
        weight_decay: of the embeddings of the fields.
        click_threshold: the lowest value that is a click.
    """

    target: Literal["rating", "click", "interaction"] = "rating"
    learner: Annotated[str, one_of(LEARNERS)] = "ridge"
    inner_steps: int = 3
    inner_rate: float = 0.1
    l2: float = 1.0
    hidden: tuple[Width, ...] = (64,)
    embedding_dim: Width = 16
    item_id: bool = True
    item_statistics: bool = True
    shots: tuple[int, int] = (0, 30)
    query: PositiveInt = 20
    negatives: PositiveInt = 60
    order: Literal["random", "time"] = "random"
    folds: Annotated[int, at_least(2)] = 5
    steps: Annotated[int, at_least(0, finite=True)] = 400
    tasks_per_step: PositiveInt = 32
    learning_rate: FinitePositiveFloat = 0.01
    weight_decay: FiniteNonNegativeFloat = 3.0
    click_threshold: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self)
        fewest, most = self.shots
        if not 0 <= fewest <= most or most < 1:
            raise ParameterError(
                f"`shots`={self.shots}; use (lowest, highest) with 0 <= lowest <= highest, and a "
                "highest above 0.",
                "shots",
            )
        self.inner_loop()  # checks its own values

    @property
    def has_log_loss(self) -> bool:
        """Whether predictions are log odds."""
        return self.target != "rating" and self.learner != RidgeHead.name_in_config

    def inner_loop(self) -> LearnerConfig:
        """Returns the settings of the learner."""
        return LearnerConfig(
            self.inner_steps,
            self.inner_rate,
            loss="cross_entropy" if self.has_log_loss else "squared_error",
            l2=self.l2,
        )


class FieldEmbedding(tf.Module):
    """Concatenates the fields of an item and of a user, as the input of a `TaskNetwork`.

    Attributes:
        statistics: float32 Variable [folds + 1, items + 1, 2]: the difference of the item's mean
            label from the mean of all, and log(1 + events) / 5. Row f > 0 excludes the users of
            fold f.
    """

    def __init__(self, config: MetaRankerConfig, spec: FeatureSpec):
        super().__init__(name="fields")
        self.items = self.statistics = None
        rows, dim = len(spec.items), config.embedding_dim
        if config.item_id:
            start = tf.random.normal([rows, dim], stddev=0.1)
            self.items = tf.Variable(start, name="item")
        if config.item_statistics:
            self.statistics = tf.Variable(
                tf.zeros([config.folds + 1, rows, 2]), trainable=False, name="statistics"
            )
        self.of_item = FeatureSum(spec.item, spec, dim, "item", "random_normal")
        self.of_user = FeatureSum(spec.user, spec, dim, "query", "random_normal")
        self.features = {
            name: tf.Variable(tf.zeros(value.shape, value.dtype), trainable=False, name=name)
            for name, value in spec.encode_items(None).items()
        }
        self.met = tf.Variable(tf.zeros([rows]), trainable=False, name="met")
        fields = int(config.item_id) + len(spec.item)
        self.item_width = max(fields * dim + 2 * int(config.item_statistics), 1)
        self.width = self.item_width + len(spec.user) * dim

    def item_fields(self, rows: tf.Tensor, fold: tf.Tensor) -> tf.Tensor:
        """Returns float32 [n, item_width] for item rows int32 [n] and folds int32 [n]."""
        fields = []
        if self.items is not None:
            # Items without training events still have random embeddings: only features count.
            met = tf.gather(self.met, rows)[:, None]
            fields.append(met * tf.gather(self.items, rows))
        known = {name: tf.gather(table, rows) for name, table in self.features.items()}
        fields += self.of_item.vectors(known)
        if self.statistics is not None:
            fields.append(tf.gather_nd(self.statistics, tf.stack([fold, rows], axis=1)))
        return tf.concat(fields, axis=1) if fields else tf.ones([tf.size(rows), 1])

    def __call__(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        """Returns float32 [T, N, width].

        Args:
            inputs: `fields` float32 [T, N, item_width], or instead `item` int32 [T, N] and `fold`
                int32 [T, N]; and `user`, the encoding of each user feature, [T, n, w], of which the
                first row counts.
        """
        if "fields" in inputs:
            fields = inputs["fields"]
        else:
            item = inputs["item"]
            shape = [tf.shape(item)[0], tf.shape(item)[1], self.item_width]
            flat = tf.reshape(item, [-1]), tf.reshape(inputs["fold"], [-1])
            fields = tf.reshape(self.item_fields(*flat), shape)
        if not inputs["user"]:
            return fields
        own = {name: values[:, 0] for name, values in inputs["user"].items()}
        user = tf.concat(self.of_user.vectors(own), axis=1)[:, None]
        return tf.concat([fields, tf.repeat(user, tf.shape(fields)[1], axis=1)], axis=2)


class MetaRanker(Recommender, tf.Module):
    """Fields of user and item, dense layers and a head, which a learner adapts to each user.

    Without a support set, the prediction depends on the features of user and item and on the item
    statistics. The history of a query has no labels, so `logits` adapts to it only for the target
    "interaction". Ratings and clicks are passed to `adapt`.

    Attributes:
        learner: one of `metalearning.LEARNERS`, over a `TaskNetwork`.
        item_fields: float32 Variable [items + 1, w], the item's part of the network's input.
        bounds: float32 Variable [2], the lowest and highest label of the training data.
        rating_scale: float32 Variable [2], the mean and the spread of its ratings, in which the
            network learns.

    References:
        Lee et al., "MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation",
        KDD 2019 (gradient steps per user); and those of each learner.
    """

    family = "meta_ranker"
    config_type = MetaRankerConfig
    adapts = True
    adapts_by_features = True

    def __init__(self, config: MetaRankerConfig, spec: FeatureSpec):
        super().__init__(name=self.family)
        self._begin(config, spec)
        self.fields = FieldEmbedding(config, spec)
        network = TaskNetwork(self.fields.width, config.hidden, self.fields)
        self.learner = LEARNERS[config.learner](network, config.inner_loop())
        self.item_fields = tf.Variable(
            tf.zeros([len(spec.items), self.fields.item_width]), trainable=False, name="item_fields"
        )
        self.bounds = tf.Variable([0.0, 1.0], trainable=False, name="bounds")
        self.rating_scale = tf.Variable([0.0, 1.0], trainable=False, name="rating_scale")

    @property
    def query_features(self) -> frozenset[Feature]:
        return frozenset(self.spec.user)

    # Learning.

    def fit(self, data: Interactions) -> None:
        """Computes item statistics, and starts the head at the mean label.

        `metalearning.rankers.learn_start` trains the weights.
        """
        self.observe(data)
        if not self.targets:
            data = data.positive_events()
        config, fields = self.config, self.fields
        for name, value in self.spec.encode_items(data.items).items():
            fields.features[name].assign(value)
        counts = self.item_counts.numpy()
        fields.met.assign(np.concatenate([[0.0], counts > 0]).astype(np.float32))
        labels = self.labels(data.events["value"].to_numpy())
        if config.target == "rating":
            self.bounds.assign([labels.min(), labels.max()])
            self.rating_scale.assign(event_targets.rating_scale(data))
            labels = self.standardised(labels)
        usual = float(labels.mean(dtype=np.float64))
        if fields.statistics is not None:
            fields.statistics.assign(self._statistics(data, labels, usual))
        start = usual
        if config.target == "interaction":
            start = config.query / (config.query + config.negatives)
        if config.has_log_loss:
            start = float(np.log(start + 1e-3) - np.log(1.0 - start + 1e-3))
        self.learner.network.fast["head/bias"].assign([[start]])
        self.refresh()

    def labels(self, value: np.ndarray) -> np.ndarray:
        """Returns the labels of events with these values, float32 [n], as `adapt` takes them."""
        if self.config.target == "interaction":
            return np.ones(len(value), np.float32)
        return np.asarray(self.observed(self.config.target, value), np.float32)

    def observed(self, target: str, value: np.ndarray) -> np.ndarray:
        return event_targets.observed(target, value, self.config.click_threshold)

    def standardised(self, labels: np.ndarray) -> np.ndarray:
        """Returns labels as the network learns them: ratings in units of their spread."""
        if self.config.target != "rating":
            return labels
        mean, spread = self.rating_scale.numpy()
        return (labels - mean) / spread

    def folds(self, users: np.ndarray) -> np.ndarray:
        """Returns the fold of user rows, int32 [n], from 1 to `folds`."""
        return (1 + users % self.config.folds).astype(np.int32)

    def refresh(self) -> None:
        """Recomputes `item_fields`, which scoring reads."""
        rows = tf.range(len(self.spec.items))
        parts = [
            self.fields.item_fields(part, tf.zeros_like(part))
            for part in tf.split(rows, [*_chunks(len(self.spec.items), 65_536)])
        ]
        self.item_fields.assign(tf.concat(parts, axis=0))

    def _statistics(self, data: Interactions, labels: np.ndarray, usual: float) -> np.ndarray:
        rows = len(self.spec.items)
        item = self.spec.items.encode(data.events["item_id"])
        fold = self.folds(self.spec.users.encode(data.events["user_id"]))
        found = np.zeros((self.config.folds + 1, rows, 2), np.float32)
        for left_out in range(self.config.folds + 1):
            kept = (fold != left_out) & (item > 0)
            count = np.bincount(item[kept], minlength=rows)
            total = np.bincount(item[kept], labels[kept] - usual, minlength=rows)
            found[left_out, :, 0] = total / (count + _PRIOR_EVENTS)
            found[left_out, :, 1] = np.log1p(count) / 5.0
        return found

    # Adapting.

    @property
    def default_label(self) -> float:
        """The label of a support item that comes without one: the highest label."""
        return float(self.bounds[1])

    def adapt(
        self,
        items: tf.Tensor,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores the catalogue for new users with these support sets.

        Args:
            items: int32 [B, S] item rows. 0 pads and stands for unknown items, which are ignored;
                of an item that occurs twice, the last occurrence counts.
            labels: float32 [B, S], ratings, or from 0 (disliked) to 1. They are clipped to the
                range of the training data, and an item whose label is not finite is ignored.
            features: the encoding of user features by name, [B, w]; absent ones are unknown.

        Returns:
            float32 [B, catalogue], the rating or the logit, and the number of support events used,
            int32 [B].
        """
        items = tf.where(tf.math.is_finite(labels), last_occurrences(items), 0)
        used = tf.reduce_sum(tf.cast(items > 0, tf.int32), axis=1)
        return self.adapted(items, labels, features or {}, None), used

    def adapted(
        self,
        support: tf.Tensor,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        items: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns scores after adaptation; ratings are in the unit of the data.

        Args:
            support: int32 [B, S], distinct item rows, 0 pads.
            labels: float32 [B, S], finite where `support` is not 0.
            features: the encoding of user features by name, [B, w]; absent ones are unknown.
            items: int32 [B, C] item rows; None for the catalogue.

        Returns:
            float32 [B, C] or [B, catalogue].
        """
        logits = self._adapted_logits(support, labels, features, items)
        if self.config.target == "rating":
            return event_targets.rating_of(logits, self.rating_scale.read_value())
        return logits

    def _adapted_logits(
        self,
        support: tf.Tensor,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        items: tf.Tensor | None,
    ) -> tf.Tensor:
        batch, network = tf.shape(support)[0], self.learner.network
        user = {}
        for feature in self.spec.user:
            empty = tf.repeat(tf.constant(empty_feature(feature, 1)), batch, axis=0)
            user[feature.name] = features.get(feature.name, empty)[:, None]
        there = tf.cast(support > 0, tf.float32)
        low, high = tf.unstack(tf.convert_to_tensor(self.bounds))
        cut = tf.clip_by_value(labels, low, high)
        if self.config.target == "rating":
            mean, spread = tf.unstack(self.rating_scale.read_value())
            cut = (cut - mean) / spread
        cut = tf.where(there > 0, cut, 0.0)
        fields = tf.convert_to_tensor(self.item_fields)
        inputs = {"fields": tf.gather(fields, support), "user": user}
        weights = self.learner.adapt(Examples(inputs, cut, there))
        if items is not None:
            return network.predict(weights, {"fields": tf.gather(fields, items), "user": user})

        def score_rows(rows: tf.Tensor) -> tf.Tensor:
            own = tf.repeat(tf.gather(fields, rows)[None], batch, axis=0)
            return network.predict(weights, {"fields": own, "user": user})

        return score_in_blocks(score_rows, batch, self.spec.catalogue_size, _PAIRS_PER_BLOCK)

    # The contract.

    @classmethod
    def targets_of(cls, config: Any) -> Sequence[str]:
        return () if config.target == "interaction" else (config.target,)

    @classmethod
    def objective_of(cls, config: Any) -> Objective:
        return event_targets.objective_of(config.target)

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        history = without_repeats(query["history"])
        if self.targets:
            history = tf.zeros_like(history)
        return self.adapted(history, tf.ones(tf.shape(history)), query, items)

    def predictions(self, query: Query, items: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.logits(query, items)
        if self.config.target == "click" and not self.config.has_log_loss:
            return {"click": tf.clip_by_value(logits, 0.0, 1.0)}
        # `logits` has ratings in the unit of the data.
        return {t: tf.sigmoid(logits) if t == "click" else logits for t in self.targets}

    def has_evidence(self, query: Query) -> tf.Tensor:
        """Returns bool [B]; always True for ratings and clicks, which item statistics predict."""
        if self.targets:
            return tf.ones([tf.shape(query["user_id"])[0]], tf.bool)
        known = tf.reduce_any(query["history"] > 0, axis=1)
        for feature in self.spec.user:
            if feature.name in query:
                known |= is_present(query[feature.name])[:, 0]
        return known

    def state(self) -> dict[str, np.ndarray]:
        return {name: variable.numpy() for name, variable in self._named().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        for name, variable in self._named().items():
            variable.assign(state[name])

    def _named(self) -> dict[str, tf.Variable]:
        fields, learner = self.fields, self.learner
        found = {"item_counts": self.item_counts, "bounds": self.bounds, "met": fields.met}
        found["rating_scale"] = self.rating_scale
        found["item_fields"] = self.item_fields
        for name, variable in (("item", fields.items), ("statistics", fields.statistics)):
            if variable is not None:
                found[name] = variable
        for side, part in (("item", fields.of_item), ("user", fields.of_user)):
            found |= {f"{side}.{feature.name}": table for feature, table in part.tables()}
        found |= {f"encoded.{name}": table for name, table in fields.features.items()}
        found |= {f"fast.{name}": weight for name, weight in learner.network.fast.items()}
        return found | learner.learned()

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """Declares the hyperparameters; the target is part of the task and is not searched."""
        default = MetaRankerConfig()
        model = {
            "learner": hp.Choice("learner", list(LEARNERS), default=default.learner),
            "inner_steps": hp.Int("inner_steps", 1, 8, default=default.inner_steps),
            "inner_rate": hp.Float(
                "inner_rate", 0.003, 1.0, sampling="log", default=default.inner_rate
            ),
            "l2": hp.Float("l2", 0.1, 100.0, sampling="log", default=default.l2),
            "embedding_dim": hp.Choice("embedding_dim", [8, 16, 32], default=16),
            "hidden": (64, 64) if hp.Boolean("second_layer", default=False) else default.hidden,
            "item_id": hp.Boolean("item_id", default=default.item_id),
            "learning_rate": hp.Float(
                "learning_rate", 0.001, 0.05, sampling="log", default=default.learning_rate
            ),
            "weight_decay": hp.Float(
                "weight_decay", 0.01, 10.0, sampling="log", default=default.weight_decay
            ),
        }
        return {"model": model, "training": {}}


def _chunks(size: int, chunk: int) -> list[int]:
    whole, rest = divmod(size, chunk)
    return [chunk] * whole + [rest] * bool(rest)
