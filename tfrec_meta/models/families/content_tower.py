"""The content tower: a retrieval model that represents items by their features alone."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Annotated, Any, ClassVar

import tensorflow as tf

from tfrec_meta.checks import PositiveFloat, Width, share
from tfrec_meta.features import FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.retrieval_tower import RetrievalTower
from tfrec_meta.models.layers.item_rows import mean_of_rows
from tfrec_meta.models.layers.towers import FeatureSum, left_out, on_unit_sphere
from tfrec_meta.models.losses.retrieval_task import (
    Choices,
    Negatives,
    RetrievalLossConfig,
    RetrievalTask,
)


@dataclasses.dataclass(frozen=True)
class ContentTowerConfig(RetrievalLossConfig):
    """The config of `ContentTower`; `RetrievalLossConfig` describes the fields of the loss.

    Args:
        embedding_dim: d, of features and of both towers.
        hidden: widths of the layers between an item's features and its vector. Both towers share
            them, and each has a linear layer of its own on top. In the first layer, each category,
            word and number has its own weights; no layers give a linear model.
        dropout: dropout rate in training, in [0, 1), of the tokens and values of each item's
            features and of each layer. It keeps the model from memorising single items.
        user_features: whether the query tower reads user and context features.
        normalise: whether the outputs of both towers are scaled to length 1.
        popularity_bias: whether an item has a bias, which is computed from its features.
    """

    embedding_dim: Width = 64
    hidden: tuple[Width, ...] = (256,)
    dropout: Annotated[float, share()] = 0.5
    user_features: bool = False
    normalise: bool = True
    popularity_bias: bool = True
    negatives: Negatives = "full"
    temperature: PositiveFloat = 0.1
    # Constant in this family; `TrainableRecommender` reads them.
    user_id: ClassVar[bool] = False
    item_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_cosines(self.normalise, self.popularity_bias)


class ContentTower(RetrievalTower):
    """Maps the features of an item to a vector, and the mean vector of the history to a query.

    Items have no embeddings of their own, so a new item is scored as well as any other with the
    same features. An item has the same hidden state in the history and as a candidate; only the
    linear layer on top differs. Items without training events are not used as negatives.

    References:
        Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016 (the
        averaged history); Volkovs et al., "DropoutNet: Addressing Cold Start in Recommender
        Systems", NeurIPS 2017 (content in place of ids).
    """

    family = "content_tower"
    config_type = ContentTowerConfig
    has_item_ids = False
    warm_start_fields = ("embedding_dim", "hidden")

    def __init__(self, config: ContentTowerConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        if not spec.item:
            raise ValueError(
                "Family 'content_tower' represents items by their features, but the FeatureSpec "
                "has no item features. Give an items table with columns such as titles and genres."
            )
        dim, rows = config.embedding_dim, len(spec.items)
        widths = config.hidden or (dim,)
        # Not zeros, which would give the ReLU no gradient.
        self.item_sum = FeatureSum(self._item_features, spec, widths[0], "item", "he_normal")
        self.first_bias = self.add_weight(name="first_bias", shape=[widths[0]], initializer="zeros")
        self.hidden_layers = [
            _dense(f"hidden_{place}", before, width, "relu")
            for place, (before, width) in enumerate(itertools.pairwise(widths))
        ]
        self.candidate_head = _dense("candidate_head", widths[-1], dim)
        self.history_head = _dense("history_head", widths[-1], dim)
        self.bias_head = _dense("bias_head", widths[-1], 1) if config.popularity_bias else None
        self.item_index = _index("item_index", rows, dim + 1)
        self.history_index = _index("history_index", rows, dim)
        self.task = RetrievalTask(config, rows, dim + 1, only_met=True)

    # Training.

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        self.refuse_windows(inputs)
        draw = self._draw() if training else None
        # Where possible, only the items of the batch are computed and not the whole catalogue.
        whole = self.config.negatives == "full" or self.step_options.compiled
        known = self._states(self._known_item(self._all_rows()), draw) if whole else None

        def states(rows: tf.Tensor) -> tf.Tensor:
            if known is not None:
                return tf.gather(known, rows)
            return self._states(self._known_item(rows), draw)

        if known is not None:
            mean = mean_of_rows(inputs["history"], self.history_head(known))
        else:
            rows, place = tf.unique(tf.concat([[0], tf.reshape(inputs["history"], [-1])], axis=0))
            place = tf.reshape(place[1:], tf.shape(inputs["history"]))
            mean = mean_of_rows(place, self.history_head(states(rows)))
        choices = Choices(
            self._embed_query(inputs, mean),
            inputs["item_id"],
            inputs["history"],
            sample_weight=inputs.get("sample_weight"),
            feedback=inputs.get("feedback"),
        )
        return self.task(
            choices,
            lambda rows: self._candidates(states(rows)),
            self.sampling_counts,
            self._draw() if training else tf.zeros([2], tf.int64),
            merge=not self.step_options.compiled,
            teacher_loss=self.teacher_loss,
            teacher_logits=None if self.teacher_loss is None else self.teacher_loss.scores(inputs),
        )

    def refresh(self) -> None:
        """Recomputes `item_index` and `history_index`, which scoring reads."""

        def vectors(rows: tf.Tensor) -> tf.Tensor:
            states = self._states(self._known_item(rows))
            return tf.concat([self._candidates(states), self.history_head(states)], axis=1)

        items, histories = tf.split(
            self._over_catalogue(vectors),
            [self.item_index.shape[1], self.history_index.shape[1]],
            axis=1,
        )
        self.item_index.assign(items)
        self.history_index.assign(histories)

    # The contract.

    def embed_query(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, embedding_dim + 1]."""
        return self._embed_query(query, mean_of_rows(query["history"], self.history_index))

    def embed_item(self, item: Query) -> tf.Tensor:
        """Returns float32 [B, embedding_dim + 1], from the encoded features of the items."""
        return self._candidates(self._states(item))

    @staticmethod
    def search_space(hp: Any) -> dict[str, Any]:
        default = ContentTowerConfig()
        model = {
            "embedding_dim": hp.Choice("embedding_dim", [32, 64, 128], default=64),
            "hidden": (hp.Choice("hidden_width", [64, 128, 256, 512], default=256),),
            "dropout": hp.Float("dropout", 0.0, 0.7, step=0.1, default=default.dropout),
            "temperature": hp.Float(
                "temperature", 0.02, 1.0, sampling="log", default=default.temperature
            ),
            "user_features": hp.Boolean("user_features", default=default.user_features),
            "popularity_bias": hp.Boolean("popularity_bias", default=True),
        }
        teacher = hp.Choice("teacher", ["none", *_TEACHERS], default="none")
        with hp.name_scope("training"):
            training = {
                "learning_rate": hp.Float(
                    "learning_rate", 0.0005, 0.05, sampling="log", default=0.005
                ),
                "weight_decay": hp.Float("weight_decay", 0.001, 1.0, sampling="log", default=0.1),
                "batch_size": hp.Choice("batch_size", [512, 1024, 2048, 4096], default=512),
            }
        return {
            "model": model,
            "training": training,
            "teacher": teacher if teacher in _TEACHERS else None,
        }

    # Parts.

    def _all_rows(self) -> tf.Tensor:
        return tf.range(len(self.spec.items))

    def _states(self, item: Query, draw: tf.Tensor | None = None) -> tf.Tensor:
        """The hidden states of items, float32 [n, last width]; `draw` is the dropout seed."""
        rate = self.config.dropout if draw is not None else 0.0
        if rate:
            item = {name: left_out(value, rate, draw) for name, value in item.items()}
        state = self.item_sum(item, self.step_options.compiled) + self.first_bias
        if not self.config.hidden:
            return state
        state = tf.nn.relu(state)
        for place, layer in enumerate([*self.hidden_layers, None]):
            if rate:
                fold = tf.random.experimental.stateless_fold_in(draw, place)
                state = tf.nn.experimental.stateless_dropout(state, rate, fold)
            if layer is not None:
                state = layer(state)
        return state

    def _candidates(self, states: tf.Tensor) -> tf.Tensor:
        """float32 [n, embedding_dim + 1]."""
        vectors = self.candidate_head(states)
        if self.config.normalise:
            vectors = on_unit_sphere(vectors)
        bias = tf.zeros_like(vectors[:, :1]) if self.bias_head is None else self.bias_head(states)
        return tf.concat([vectors, bias], axis=1)

    def _embed_query(self, query: Query, total: tf.Tensor) -> tf.Tensor:
        if self._query_features:
            total += self.query_sum(self._with_known_features(query), self.step_options.compiled)
        if self.config.normalise:
            total = on_unit_sphere(total)
        return tf.concat([total / self.config.temperature, tf.ones_like(total[:, :1])], axis=1)

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        layers = {layer.name: layer.weights for layer in (*self.hidden_layers, *self._heads())}
        return {"first_bias": [self.first_bias], **layers, **super().other_weights()}

    def _heads(self) -> list[tf_keras.layers.Dense]:
        heads = [self.candidate_head, self.history_head, self.bias_head]
        return [head for head in heads if head is not None]


_TEACHERS = ("ials", "bert")  # searched teachers; the second also scores items without events


def _dense(name: str, before: int, width: int, activation: str | None = None) -> Any:
    layer = tf_keras.layers.Dense(width, activation=activation, name=name)
    layer.build([None, before])
    return layer


def _index(name: str, rows: int, dim: int) -> tf.Variable:
    return tf.Variable(tf.zeros([rows, dim]), trainable=False, name=name)
