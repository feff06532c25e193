"""The ranker: fields of a query and of an item, brought together by one of four interactions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, get_args

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec, Vocabulary
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base import targets
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.field_recommender import FieldRecommender, recipe_space
from tfrec_meta.models.layers.feature_crosses import InteractionName, made_interaction
from tfrec_meta.models.layers.item_rows import is_in_history

# Of a catalogue; so many times some hundred numbers are worked out at once.
_PAIRS_AT_ONCE = 1 << 14
_NO_WAY = -1e9  # a logit that leaves nothing after a softmax


@dataclasses.dataclass(frozen=True)
class RankerConfig:
    """Shape and target of a ranker.

    Args:
        target: "interaction" tells the item of an event from sampled ones, which makes a
            recommender of it; "click" whether an event has a value of `click_threshold` or more;
            "rating" the value. The latter two learn from events alone, not from what is left out.
        interaction: "mlp"; "dcn" (DCN-v2), "dlrm" or "deepfm".
        embedding_dim: d, of each field.
        hidden: widths of the dense layers, at least one.
        cross_layers: of "dcn".
        cross_rank: of the matrices of these layers; 0 for whole ones.
        user_id: whether there is a field, and a bias, of the user.
        user_features: whether there are fields of the user's and the context's features.
        item_features: whether there are fields of the item's features.
        negatives: items that are sampled for a batch, of "interaction"; those of the user's own
            history are none.
        negative_sampling: "uniform", or "popularity": by the item's share of the events.
        click_threshold: the least value that is a click.
    """

    target: Literal["interaction", "click", "rating"] = "interaction"
    interaction: InteractionName = "mlp"
    embedding_dim: int = 32
    hidden: tuple[int, ...] = (64,)
    cross_layers: int = 2
    cross_rank: int = 0
    user_id: bool = False
    user_features: bool = True
    item_features: bool = True
    negatives: int = 128
    negative_sampling: Literal["uniform", "popularity"] = "uniform"
    click_threshold: float = 4.0

    def __post_init__(self) -> None:
        for name, known in (
            ("target", ("interaction", "click", "rating")),
            ("interaction", get_args(InteractionName)),
            ("negative_sampling", ("uniform", "popularity")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}`={getattr(self, name)!r}; use one of {known}.")
        for name in ("embedding_dim", "cross_layers", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")
        if self.cross_rank < 0:
            raise ValueError(f"`cross_rank`={self.cross_rank}; use 0 or more.")
        if not self.hidden or any(width < 1 for width in self.hidden):
            raise ValueError(f"`hidden`={self.hidden}; use at least one width, each 1 or more.")


class Ranker(FieldRecommender):
    """A `tfrs.Model` that scores a query and an item by `tfrs.tasks.Ranking`.

    A logit is the interaction of the fields, the item's bias, the user's (with `user_id`), and what
    is usual in the data. Of target "interaction" a bias starts at the item's log popularity.

    Attributes:
        usual: float32 Variable, the mean rating, or the log odds of a click; of "interaction" 0.
        item_parts: float32 Variable [items, p], what of the interaction is the item's alone.
    """

    family = "ranker"
    config_type = RankerConfig
    warm_start_fields = ("embedding_dim", "target")

    def __init__(self, config: RankerConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        items, users = len(spec.items), len(spec.users)
        # Weight decay spares what is called `item_bias`, since that of popularity must stay. What a
        # rating is off from the usual has to shrink where few have rated.
        name = "item_bias" if config.target == "interaction" else "item_shift"
        self.item_bias = self.add_weight(name=name, shape=[items], initializer="zeros")
        self.user_bias = (
            self.add_weight(name="user_bias", shape=[users], initializer="zeros")
            if config.user_id
            else None
        )
        self.usual = tf.Variable(0.0, trainable=False, name="usual")
        self.interaction = made_interaction(
            config.interaction,
            config.embedding_dim,
            config.hidden,
            config.cross_layers,
            config.cross_rank,
        )
        self.interaction(tf.zeros([1, self.query_width]), tf.zeros([1, self.item_width]))
        width = self.interaction.item_part(tf.zeros([1, self.item_width])).shape[1]
        self.item_parts = tf.Variable(tf.zeros([items, width]), trainable=False, name="item_parts")
        if config.target == "interaction":
            self.task = tfrs.tasks.Ranking(
                loss=tf_keras.losses.CategoricalCrossentropy(
                    from_logits=True, reduction=tf_keras.losses.Reduction.NONE
                )
            )
        else:
            self.task = targets.ranking_task(config.target)

    @property
    def targets(self) -> Sequence[str]:
        return () if self.config.target == "interaction" else (self.config.target,)

    @classmethod
    def objective_of(cls, config: Any) -> Objective:
        return targets.objective_of(config.target)

    # Training.

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        super().prepare(data)
        if self.config.target == "interaction":
            # The unknown item is as popular as the least popular known one.
            prior = self._prior_logits()
            floor = tf.reduce_min(prior, keepdims=True)
            self.item_bias.assign(tf.concat([floor, prior], axis=0))
        else:
            threshold = self.config.click_threshold
            self.usual.assign(targets.usual_logit(self.config.target, data, threshold))

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """The loss of a batch of events.

        Of "interaction" the softmax of the event's item among itself and the sampled ones, each
        logit corrected by how often it is sampled (Bengio and Senécal, "Adaptive Importance
        Sampling", IEEE TNN 2008); of "rating" the squared error, of "click" the log loss.

        Args:
            inputs: an encoded query batch, `item_id` int32 [B], of "click" and "rating" the `value`
                float32 [B], and optionally a `sample_weight` float32 [B].
            training: whether the sampled items are others at each step.
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
            logits = tf.concat([logits, tf.where(own, _NO_WAY, corrected)], axis=1)
            labels = tf.one_hot(tf.zeros_like(rows), 1 + self.config.negatives)
        else:
            threshold = self.config.click_threshold
            labels = targets.labels_of(self.config.target, inputs["value"], threshold)[:, None]
        losses = self.task(
            labels, logits, sample_weight=inputs.get("sample_weight"), compute_metrics=False
        )
        return tf.reduce_mean(losses)

    def refresh(self, chunk: int = 65_536) -> None:
        """Recomputes what of the catalogue is the items' alone; after training."""
        rows = tf.range(self.item_parts.shape[0])
        parts = [
            self._item_part(rows[start : start + chunk]) for start in range(0, len(rows), chunk)
        ]
        self.item_parts.assign(tf.concat(parts, axis=0))

    # The contract.

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        part, bias = self._query_side(query)
        if items is None:
            return self._catalogue(part) + bias + self.item_bias[1:][None]
        pairs = self._pairs(part, tf.gather(self.item_parts, items))
        return pairs + bias + tf.gather(self.item_bias, items)

    def predictions(self, query: Query, items: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self.logits(query, items)
        return {target: targets.prediction_of(target, logits) for target in self.targets}

    def has_evidence(self, query: Query) -> tf.Tensor:
        """Of a click or a rating always: what is usual, and of the item, goes for anyone."""
        if self.targets:
            return tf.ones([tf.shape(query["user_id"])[0]], tf.bool)
        return super().has_evidence(query)

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        found = {**super().rows_of_tokens(), "item_bias": (self.item_bias, self.spec.items)}
        if self.user_bias is not None:
            found["user_bias"] = (self.user_bias, self.spec.users)
        return found

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        found = super().other_weights()
        return {**found, self.config.interaction: self.interaction.weights}

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """See the contract. The target is no matter of taste: it is the strategy's."""
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
        """The query's part of the interaction, float32 [B, p], and its bias, float32 [B, 1]."""
        bias = tf.fill([tf.shape(query["user_id"])[0], 1], 1.0) * self.usual
        if self.user_bias is not None:
            known = tf.cast(self._has_user_events(query["user_id"]), tf.float32)
            bias += (known * tf.gather(self.user_bias, query["user_id"]))[:, None]
        return self.interaction.query_part(self.query_fields(query)), bias

    def _item_part(self, rows: tf.Tensor) -> tf.Tensor:
        return self.interaction.item_part(self.item_fields(self._known_item(rows)))

    def _pairs(self, query: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """float32 [B, C], of parts float32 [B, p] and [B, C, p'] or [1, C, p']."""
        return self.interaction.pair(query[:, None], items)

    def _catalogue(self, query: tf.Tensor) -> tf.Tensor:
        """float32 [B, catalogue], block by block: a block's memory doesn't grow with either."""
        size = self.spec.catalogue_size
        width = tf.clip_by_value(_PAIRS_AT_ONCE // tf.maximum(tf.shape(query)[0], 1), 1, size)
        starts = tf.range(1, size + 1, width)

        def block(start: tf.Tensor) -> tf.Tensor:
            rows = tf.minimum(start + tf.range(width), size)  # the last block repeats the last item
            return self._pairs(query, tf.gather(self.item_parts, rows)[None])

        blocks = tf.map_fn(
            block, starts, fn_output_signature=tf.TensorSpec([None, None]), parallel_iterations=1
        )
        side_by_side = tf.reshape(
            tf.transpose(blocks, [1, 0, 2]), [tf.shape(query)[0], tf.size(starts) * width]
        )
        return tf.ensure_shape(side_by_side[:, :size], [None, size])

    def _sampled(self, draw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Item rows int32 [negatives] by the draw, int64 [2]; each item's chance, [catalogue]."""
        size, count = self.spec.catalogue_size, self.config.negatives
        if self.config.negative_sampling == "uniform":
            rows = tf.random.stateless_uniform([count], draw, 1, size + 1, tf.int32)
            return rows, tf.fill([size], 1.0 / size)
        chance = tf.exp(self._prior_logits())
        place = tf.random.stateless_uniform([count], draw)
        rows = tf.searchsorted(tf.cumsum(chance), place, side="right")
        return 1 + tf.minimum(rows, size - 1), chance
