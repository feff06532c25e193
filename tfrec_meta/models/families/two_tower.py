"""The two-tower retrieval model, with a choice of history encoders."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, get_args

import tensorflow as tf

from tfrec_meta.checks import PositiveInt, Width, share
from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import FeatureSpec, Vocabulary
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.recipe_space import recipe_space
from tfrec_meta.models.base.retrieval_tower import RetrievalTower
from tfrec_meta.models.layers.history_encoders import EncoderName, history_encoder, mean_states
from tfrec_meta.models.layers.item_embeddings import ItemInitializer, initial_item_embeddings
from tfrec_meta.models.layers.item_rows import mean_of_rows
from tfrec_meta.models.layers.towers import multilayer_perceptron, on_unit_sphere
from tfrec_meta.models.losses.retrieval_task import Choices, RetrievalLossConfig, RetrievalTask


@dataclasses.dataclass(frozen=True)
class TwoTowerConfig(RetrievalLossConfig):
    """The config of `TwoTower`; `RetrievalLossConfig` describes the fields of the loss.

    Args:
        embedding_dim: d, of ids, features and both towers.
        hidden: widths of the dense layers on top of each tower; none for the plain sum of
            embeddings.
        user_id: whether the query tower has an embedding of the user.
        user_features: whether the query tower reads user and context features.
        item_features: whether the candidate tower reads item features.
        share_item_embeddings: whether history and candidates use one table of item embeddings.
        item_initializer: the initial item embeddings (`models.layers.item_embeddings`). "item2vec"
            and "spectral" decompose a matrix of items; "words" needs item texts or categories.
        normalise: whether the outputs of both towers are scaled to length 1.
        popularity_bias: whether each item has a bias, which starts at its log popularity.
        encoder: the history encoder (`models.layers.history_encoders`). "mean" ignores the order
            and is by far the fastest. "none" uses only the user's id and features, as matrix
            factorisation does.
        encoder_length: the number of latest items that an encoder other than "mean" reads.
        encoder_layers: layers of "gru", "convolution" and "transformer".
        encoder_heads: attention heads of "transformer"; a divisor of `embedding_dim`.
        encoder_dropout: dropout rate of each encoder layer, in [0, 1).
    """

    embedding_dim: Width = 64
    hidden: tuple[Width, ...] = ()
    user_id: bool = False
    user_features: bool = False
    item_features: bool = True
    share_item_embeddings: bool = True
    item_initializer: ItemInitializer = "random"
    normalise: bool = True
    popularity_bias: bool = True
    encoder: EncoderName = "mean"
    encoder_length: PositiveInt = 50
    encoder_layers: PositiveInt = 2
    encoder_heads: PositiveInt = 2
    encoder_dropout: Annotated[float, share()] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_cosines(self.normalise, self.popularity_bias)
        if self.encoder == "none" and not (self.user_id or self.user_features):
            raise ParameterError(
                "`encoder`='none' gives all users the same query. Use `user_id`=True or "
                "`user_features`=True.",
                "encoder",
                "user_id",
                "user_features",
            )
        if self.encoder == "transformer" and self.embedding_dim % self.encoder_heads:
            raise ParameterError(
                f"`encoder_heads`={self.encoder_heads} does not divide `embedding_dim`="
                f"{self.embedding_dim}. Use a divisor of it.",
                "encoder_heads",
                "embedding_dim",
            )

    def idle_fields(self, taught: bool) -> set[str]:
        idle = super().idle_fields(taught)
        if self.encoder in ("mean", "none"):
            idle.add("encoder_length")
        if self.encoder in ("mean", "none", "attention"):
            idle |= {"encoder_layers", "encoder_dropout"}
        if self.encoder != "transformer":
            idle.add("encoder_heads")
        return idle


class TwoTower(RetrievalTower):
    """A query tower (id, history, features) and a candidate tower (id, features).

    The query embedding contains 1 / temperature and a constant 1, the item embedding its bias, so
    that the dot product of the two is the logit.

    References:
        Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016 (the
        averaged history); Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
        Recommendations", RecSys 2019 (in-batch softmax with logQ).
    """

    family = "two_tower"
    config_type = TwoTowerConfig
    reads_windows = True

    def __init__(self, config: TwoTowerConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        dim, items = config.embedding_dim, len(spec.items)
        self.history_embedding = (
            self.item_embedding
            if config.share_item_embeddings
            else self._table("history_embedding", items)
        )
        self.item_bias = self.add_weight(
            name="item_bias", shape=[items], initializer="zeros", trainable=config.popularity_bias
        )
        self.query_layers = multilayer_perceptron(config.hidden, dim, "query_layers")
        self.item_layers = multilayer_perceptron(config.hidden, dim, "item_layers")
        self.history_encoder = (
            None
            if config.encoder in ("mean", "none")
            else history_encoder(
                config.encoder,
                dim,
                config.encoder_length,
                config.encoder_layers,
                config.encoder_heads,
                config.encoder_dropout,
            )
        )
        self.item_index = tf.Variable(
            tf.zeros([items, dim + 1]), trainable=False, name="item_index"
        )
        self.task = RetrievalTask(config, items, dim + 1)
        for layers in (self.query_layers, self.item_layers):
            if layers is not None:
                layers.build([None, dim])

    # Training.

    def check_rows(self, rows: str, batch_size: int, windows_per_batch: int) -> None:
        config = self.config
        if (
            rows == "windows"
            and windows_per_batch == 1
            and config.negatives == "in_batch"
            and config.mask_positives
            and not config.memory
        ):
            raise ValueError(
                f"`batch_size`={batch_size} is one window of one user, whose own items are not "
                "used as negatives, so the loss would be 0. Use twice the window length, or more."
            )

    def history_window(self, rows: str, length: int) -> int:
        if rows == "windows" and self.history_encoder is not None:
            return min(length, self.config.encoder_length)
        return length

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        super().prepare(data)
        if self.config.popularity_bias:
            self.item_bias.assign(self._prior_rows())
        if self.config.item_initializer != "random":
            if not isinstance(data, Interactions):
                raise ValueError(
                    f"`item_initializer`={self.config.item_initializer!r} reads all events into "
                    "memory, and these are streamed. Use 'random'."
                )
            start = self.item_embedding.numpy()
            found = initial_item_embeddings(self.config.item_initializer, data, self.spec, start)
            self.item_embedding.assign(found)
            self.history_embedding.assign(found)  # the same table, if it is shared

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """Returns the loss of a batch of events, float32 scalar.

        Args:
            inputs: an encoded query batch, `item_id` int32 [B], the item of each event, and
                optionally `sample_weight` float32 [B]. Or a batch of windows, with `item_id` int32
                [W, n]: each item of a window is then such an event.
            training: whether dropout is applied and new negatives are sampled.
        """
        draw = self._draw() if training else None
        query: Query
        if inputs["item_id"].shape.rank == 2:
            query, vector, window = self._events_of_windows(inputs, draw)
            liked = inputs["item_id"]
            if "feedback" in inputs:
                liked = tf.where(inputs["feedback"] > 0, liked, 0)
            own = tf.concat([inputs["history"], liked], axis=1)
        else:
            query, window = inputs, None
            vector = self._encode_history(inputs["history"], draw)
            own = inputs["history"]
        choices = Choices(
            self._embed_query(query, vector),
            query["item_id"],
            own,
            window,
            query.get("sample_weight"),
            query.get("feedback"),
        )
        return self.task(
            choices,
            self._embed_known_items,
            self.sampling_counts,
            self._draw() if training else tf.zeros([2], tf.int64),
            merge=not self.step_options.compiled,
            teacher_loss=self.teacher_loss,
            teacher_logits=None if self.teacher_loss is None else self.teacher_loss.scores(query),
        )

    def refresh(self) -> None:
        """Recomputes `item_index`, which scoring reads."""
        if self.config.popularity_bias:
            # An unknown item gets the bias of the least popular known one.
            known = self.item_bias[1:]
            self.item_bias.assign(tf.concat([tf.reduce_min(known, keepdims=True), known], axis=0))
        self.item_index.assign(self._over_catalogue(self._embed_known_items))

    # The contract.

    def embed_query(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, embedding_dim + 1]."""
        return self._embed_query(query, self._encode_history(query["history"]))

    def _embed_query(self, query: Query, total: tf.Tensor) -> tf.Tensor:
        """The query tower on top of the encoded history, float32 [B, embedding_dim + 1]."""
        if self.user_embedding is not None:
            total += self._user_vectors(query["user_id"])
        if self._query_features:
            total += self.query_sum(self._with_known_features(query), self.step_options.compiled)
        if self.query_layers is not None:
            total = self.query_layers(total)
        if self.config.normalise:
            total = on_unit_sphere(total)
        one = tf.ones([tf.shape(total)[0], 1])
        return tf.concat([total / self.config.temperature, one], axis=1)

    def embed_item(self, item: Query) -> tf.Tensor:
        """Returns float32 [B, embedding_dim + 1]."""
        rows = item["item_id"]
        total = self._item_vectors_by_id(rows)
        if self._item_features:
            total += self.item_sum(item, self.step_options.compiled)
        if self.item_layers is not None:
            total = self.item_layers(total)
        if self.config.normalise:
            total = on_unit_sphere(total)
        return tf.concat([total, tf.gather(self.item_bias, rows)[:, None]], axis=1)

    def has_evidence(self, query: Query) -> tf.Tensor:
        if self.config.encoder == "none":
            return self._evidence_without_history(query)
        return super().has_evidence(query)

    @staticmethod
    def search_space(hp: Any) -> dict[str, Any]:
        """Declares the hyperparameters; some depend on the encoder, as do the training rows."""
        default = TwoTowerConfig()
        model = {
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64, 128, 256], default=64),
            "hidden": (128,) if hp.Boolean("hidden_layer", default=False) else (),
            "user_id": hp.Boolean("user_id", default=default.user_id),
            "user_features": hp.Boolean("user_features", default=default.user_features),
            "item_features": hp.Boolean("item_features", default=default.item_features),
            "share_item_embeddings": hp.Boolean("share_item_embeddings", default=True),
            "item_initializer": hp.Choice(
                "item_initializer",
                ["random", "item2vec", "spectral", "lightgcn"],
                default=default.item_initializer,
            ),
            "popularity_bias": hp.Boolean("popularity_bias", default=True),
            **_loss_space(hp, default),
            **_encoder_space(hp, default),
        }
        # KerasTuner has no condition on two parents, so the loss is checked below.
        with hp.conditional_scope("negatives", ["full"]):
            teacher = hp.Choice("teacher", ["none", *_TEACHERS], default="none")
        taught = teacher in _TEACHERS and model["loss"] == "softmax"
        return {
            "model": model,
            "training": _recipe_space(hp),
            "teacher": teacher if taught else None,
        }

    # Parts.

    def _encode_history(self, rows: tf.Tensor, draw: tf.Tensor | None = None) -> tf.Tensor:
        """int32 [B, H] to float32 [B, embedding_dim]; the dropout seed is `draw`, int64 [2]."""
        if self.config.encoder == "none":
            return tf.zeros([tf.shape(rows)[0], self.config.embedding_dim])
        if self.history_encoder is None:
            return mean_of_rows(rows, self.history_embedding)
        return self.history_encoder(rows, self.history_embedding, draw)

    def _events_of_windows(
        self, windows: Query, draw: tf.Tensor | None
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """The items of windows as events: their queries, encoded histories and window numbers."""
        rows = windows["history"]
        named = tf.cast(rows > 0, tf.float32)[:, :, None]
        inputs = named * tf.gather(self.history_embedding, rows)
        if self.config.encoder == "none":
            states = tf.zeros_like(inputs)
        elif self.history_encoder is None:
            states = mean_states(inputs, rows)
        else:
            states = self.history_encoder.states(inputs, draw)
        place = tf.where(windows["item_id"] > 0)
        events = {
            name: tf.gather_nd(value, place)
            for name, value in windows.items()
            if name not in ("user_id", "history")
        }
        events["user_id"] = tf.gather(windows["user_id"], place[:, 0])
        earlier = tf.range(rows.shape[1], dtype=tf.int64)[None, :] <= place[:, 1:]
        events["history"] = tf.where(earlier, tf.gather(rows, place[:, 0]), 0)
        return events, tf.gather_nd(states, place), place[:, 0]

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        found, items = super().rows_of_tokens(), self.spec.items
        if self.config.popularity_bias:
            found["item_bias"] = (self.item_bias, items)
        if not self.config.share_item_embeddings:
            found["history_embedding"] = (self.history_embedding, items)
        return found

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        layers = {
            "query": self.query_layers,
            "item": self.item_layers,
            self.config.encoder: self.history_encoder,
        }
        own = {part: layer.weights for part, layer in layers.items() if layer is not None}
        return {**own, **super().other_weights()}


_ENCODERS = [name for name in get_args(EncoderName) if name != "none"]
_TEACHERS = ("ease", "ials")  # searched teachers: fast to fit, and good models themselves
_IN_ORDER = [name for name in _ENCODERS if name != "mean"]  # these depend on the order


def _loss_space(hp: Any, default: TwoTowerConfig) -> dict[str, Any]:
    """Declares the loss and its negatives."""
    chosen = {
        "loss": hp.Choice("loss", ["softmax", "binary_cross_entropy", "bpr"], default=default.loss),
        "negatives": hp.Choice(
            "negatives", ["in_batch", "mixed", "full"], default=default.negatives
        ),
        "temperature": hp.Float(
            "temperature", 0.02, 1.0, sampling="log", default=default.temperature
        ),
        "mask_positives": hp.Boolean("mask_positives", default=default.mask_positives),
    }
    with hp.conditional_scope("loss", ["softmax"]):
        chosen["label_smoothing"] = hp.Float(
            "label_smoothing", 0.0, 0.3, step=0.05, default=default.label_smoothing
        )
    return chosen


def _encoder_space(hp: Any, default: TwoTowerConfig) -> dict[str, Any]:
    """Declares the encoder and its settings; None for settings that the chosen one lacks."""
    chosen = {"encoder": hp.Choice("encoder", _ENCODERS, default=default.encoder)}
    with hp.conditional_scope("encoder", _IN_ORDER):
        chosen["encoder_length"] = hp.Choice(
            "encoder_length", [20, 50, 100], default=default.encoder_length
        )
    with hp.conditional_scope("encoder", ["gru", "convolution", "transformer"]):
        chosen["encoder_layers"] = hp.Int("encoder_layers", 1, 3, default=default.encoder_layers)
        chosen["encoder_dropout"] = hp.Float(
            "encoder_dropout", 0.0, 0.5, step=0.1, default=default.encoder_dropout
        )
    with hp.conditional_scope("encoder", ["transformer"]):
        chosen["encoder_heads"] = hp.Choice(
            "encoder_heads", [1, 2, 4], default=default.encoder_heads
        )
    return chosen


def _recipe_space(hp: Any) -> dict[str, Any]:
    """Declares the searched fields of `TrainingConfig`, with its defaults."""
    with hp.conditional_scope("encoder", _IN_ORDER), hp.name_scope("training"):
        # With one history per event, such an encoder would train for minutes.
        rows = hp.Fixed("rows", "windows")
    return {"rows": rows, **recipe_space(hp)}
