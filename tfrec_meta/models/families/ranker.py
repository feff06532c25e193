"""The ranker: the fields of a query and an item, combined by one of four feature crosses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.checks import NonNegativeInt, PositiveInt, Width, check_fields, not_empty
from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.field_recommender import FieldRecommender
from tfrec_meta.models.base.recipe_space import recipe_space
from tfrec_meta.models.layers.catalogue_blocks import score_in_blocks
from tfrec_meta.models.layers.feature_crosses import InteractionName, create_feature_cross
from tfrec_meta.models.layers.item_rows import is_in_history
from tfrec_meta.models.losses import event_targets
from tfrec_meta.models.losses.retrieval_losses import softmax_negative

# Pairs of a query and an item that are scored at once; each takes some hundred numbers.
_PAIRS_PER_BLOCK = 1 << 14
_MINUS_INFINITY = -1e9  # a logit whose softmax is 0


@dataclasses.dataclass(frozen=True)
class RankerConfig:
    """The config of `Ranker`.

    Args:
        target: "interaction" separates the item of an event from sampled items, which makes the
            model a recommender. "click" predicts whether an event has a value of `click_threshold`
            or more, "rating" predicts the value, in any unit. The latter two learn from events
            alone, without negatives.
        interaction: the feature cross: "mlp", "dcn" (DCN-v2), "dlrm" or "deepfm".
        embedding_dim: d, of each field.
        hidden: widths of the dense layers, at least one.
        cross_layers: cross layers of "dcn".
        cross_rank: rank of the matrices of these layers; 0 for full rank.
        user_id: whether the user has a field and a bias.
        user_features: whether user and context features have fields.
        item_features: whether item features have fields.
        negatives: items sampled per batch, for "interaction"; items of the user's own history are
            not used.
        negative_sampling: "uniform", or "popularity", in proportion to the item's events.
        click_threshold: the lowest value that is a click.
    """

    target: Literal["interaction", "click", "rating"] = "interaction"
    interaction: InteractionName = "mlp"
    embedding_dim: Width = 32
    hidden: Annotated[tuple[Width, ...], not_empty()] = (64,)
    cross_layers: PositiveInt = 2
    cross_rank: NonNegativeInt = 0
    user_id: bool = False
    user_features: bool = True
    item_features: bool = True
    negatives: PositiveInt = 128
    negative_sampling: Literal["uniform", "popularity"] = "uniform"
    click_threshold: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self)


class Ranker(FieldRecommender):
    """Scores a pair of a query and an item; trained with `tfrs.tasks.Ranking`.

    A logit is the sum of the feature cross, the bias of the item, the bias of the user (with
    `user_id`) and `usual`. For the target "interaction", `usual` is 0 and the bias of an item
    starts at its log popularity. For "rating", a logit is in units of the spread of the ratings,
    above their mean; scores and predictions are in the unit of the data.

    Attributes:
        item_parts: float32 Variable [items, p], the part of the feature cross that depends on the
            item alone.
    """

    family = "ranker"
    config_type = RankerConfig
    warm_start_fields = ("embedding_dim", "target")

    def __init__(self, config: RankerConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        # Weight decay spares variables named `item_bias`, since popularity must not decay. The
        # offset of an item's ratings must shrink where few users have rated it.
        self.add_biases([], "item_bias" if config.target == "interaction" else "item_shift")
        self.interaction = create_feature_cross(
            config.interaction,
            config.embedding_dim,
            config.hidden,
            config.cross_layers,
            config.cross_rank,
        )
        self.interaction(tf.zeros([1, self.query_width]), tf.zeros([1, self.item_width]))
        width = self.interaction.item_part(tf.zeros([1, self.item_width])).shape[1]
        self.item_parts = tf.Variable(
            tf.zeros([len(spec.items), width]), trainable=False, name="item_parts"
        )
        if config.target == "interaction":
            self.task = tfrs.tasks.Ranking(
                loss=tf_keras.losses.CategoricalCrossentropy(
                    from_logits=True, reduction=tf_keras.losses.Reduction.NONE
                )
            )
        else:
            self.task = event_targets.ranking_task(config.target)

    @classmethod
    def targets_of(cls, config: Any) -> Sequence[str]:
        return () if config.target == "interaction" else (config.target,)

    @classmethod
    def objective_of(cls, config: Any) -> Objective:
        return event_targets.objective_of(config.target)

    def observed(self, target: str, value: np.ndarray) -> np.ndarray:
        return event_targets.observed(target, value, self.config.click_threshold)

    # Training.

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        super().prepare(data)
        if self.config.target == "interaction":
            self.item_bias.assign(self._prior_rows())
        else:
            threshold = self.config.click_threshold
            self.usual.assign(event_targets.usual_logit(self.config.target, data, threshold))

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """Returns the loss of a batch of events, float32 scalar.

        For "interaction", it is the cross-entropy of the event's item among itself and the sampled
        items, with each logit corrected by the item's sampling probability (Bengio and Senécal,
        "Adaptive Importance Sampling", IEEE TNN 2008). For "rating" it is the squared error in
        units of the ratings' variance, for "click" the log loss.

        Args:
            inputs: an encoded query batch, `item_id` int32 [B], for "click" and "rating" the
                `value` float32 [B], and optionally `sample_weight` float32 [B] and, which only
                "interaction" uses, `feedback` float32 [B].
            training: whether each step samples other items.
        """
        self.refuse_windows(inputs)
        rows = inputs["item_id"]
        query, bias = self._query_side(inputs)
        logits = self._pairs(query, self._item_part(rows)[:, None])
        logits += bias + tf.gather(self.item_bias, rows)[:, None]
        if self.config.target == "interaction":
            draw = self._draw() if training else tf.zeros([2], tf.int64)
            others, chance = self._sampled(draw)
            among = self._pairs(query, self._item_part(others)[None])
            among += bias + tf.gather(self.item_bias, others)[None]
            own = is_in_history(inputs["history"], others, len(self.spec.items))
            own |= others[None] == rows[:, None]
            corrected = among - tf.math.log(tf.gather(chance, others - 1))[None]
            logits -= tf.math.log(tf.gather(chance, rows - 1))[:, None]
            logits = tf.concat([logits, tf.where(own, _MINUS_INFINITY, corrected)], axis=1)
            labels = tf.one_hot(tf.zeros_like(rows), 1 + self.config.negatives)
        else:
            threshold = self.config.click_threshold
            value, scale = inputs["value"], self.rating_scale.read_value()
            labels = event_targets.labels_of(self.config.target, value, threshold, scale)[:, None]
        weight = inputs.get("sample_weight")
        feedback = inputs.get("feedback") if self.config.target == "interaction" else None
        if feedback is None:
            losses = self.task(labels, logits, sample_weight=weight, compute_metrics=False)
            return tf.reduce_mean(losses)
        chosen = self.task(labels, logits, compute_metrics=False)
        known = softmax_negative(logits[:, 0], logits[:, 1:])
        losses = tf.where(feedback < 0, known, chosen) * tf.abs(feedback)
        return tf.reduce_mean(losses if weight is None else losses * weight)

    def refresh(self) -> None:
        """Recomputes `item_parts`, which scoring reads."""
        self.item_parts.assign(self._over_catalogue(self._item_part))

    # The contract.

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        logits = self._logits(query, items)
        if self.config.target == "rating":
            return event_targets.rating_of(logits, self.rating_scale.read_value())
        return logits

    def _logits(self, query: Query, items: tf.Tensor | None) -> tf.Tensor:
        part, bias = self._query_side(query)
        if items is None:
            return self._catalogue(part) + bias + self.item_bias[1:][None]
        pairs = self._pairs(part, tf.gather(self.item_parts, items))
        return pairs + bias + tf.gather(self.item_bias, items)

    def predictions(self, query: Query, items: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, scale = self._logits(query, items), self.rating_scale.read_value()
        return {t: event_targets.prediction_of(t, logits, scale) for t in self.targets}

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        found = super().other_weights()
        return {**found, self.config.interaction: self.interaction.weights}

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """Declares the hyperparameters; the target is part of the task and is not searched."""
        default = RankerConfig()
        names = list(get_args(InteractionName))
        model = {
            "interaction": hp.Choice("interaction", names, default=default.interaction),
            "embedding_dim": hp.Choice("embedding_dim", [8, 16, 32, 64], default=32),
            "hidden": (128, 64) if hp.Boolean("second_layer", default=False) else default.hidden,
            "user_id": hp.Boolean("user_id", default=default.user_id),
            "user_features": hp.Boolean("user_features", default=default.user_features),
            "item_features": hp.Boolean("item_features", default=default.item_features),
            "negatives": hp.Choice("negatives", [64, 128, 256], default=default.negatives),
            "negative_sampling": hp.Choice(
                "negative_sampling", ["uniform", "popularity"], default=default.negative_sampling
            ),
        }
        with hp.conditional_scope("interaction", ["dcn"]):
            model["cross_layers"] = hp.Int("cross_layers", 1, 3, default=default.cross_layers)
            model["cross_rank"] = hp.Choice("cross_rank", [0, 8, 32], default=default.cross_rank)
        return {"model": model, "training": recipe_space(hp)}

    # Parts.

    def _query_side(self, query: Query) -> tuple[tf.Tensor, tf.Tensor]:
        """The query's part of the feature cross, float32 [B, p], and its bias, float32 [B, 1]."""
        bias = tf.fill([tf.shape(query["user_id"])[0], 1], 1.0) * self.usual
        if self.user_bias is not None:
            known = tf.cast(self._has_user_events(query["user_id"]), tf.float32)
            bias += (known * tf.gather(self.user_bias, query["user_id"]))[:, None]
        return self.interaction.query_part(self.query_fields(query)), bias

    def _item_part(self, rows: tf.Tensor) -> tf.Tensor:
        return self.interaction.item_part(self.item_fields(self._known_item(rows)))

    def _pairs(self, query: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """float32 [B, C], from parts float32 [B, p] and [B, C, p'] or [1, C, p']."""
        return self.interaction.pair(query[:, None], items)

    def _catalogue(self, query: tf.Tensor) -> tf.Tensor:
        """float32 [B, catalogue]."""
        return score_in_blocks(
            lambda rows: self._pairs(query, tf.gather(self.item_parts, rows)[None]),
            tf.shape(query)[0],
            self.spec.catalogue_size,
            _PAIRS_PER_BLOCK,
        )

    def _sampled(self, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Sampled item rows int32 [negatives], and the probability of each item [catalogue].

        Args:
            draw: int64 [2], the seed.
        """
        size, count = self.spec.catalogue_size, self.config.negatives
        if self.config.negative_sampling == "uniform":
            rows = tf.random.stateless_uniform([count], draw, 1, size + 1, tf.int32)
            return rows, tf.fill([size], 1.0 / size)
        chance = tf.exp(self._prior_logits())
        place = tf.random.stateless_uniform([count], draw)
        rows = tf.searchsorted(tf.cumsum(chance), place, side="right")
        return 1 + tf.minimum(rows, size - 1), chance
