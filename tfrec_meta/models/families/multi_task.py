"""Multi-task learning: retrieval, rating and click heads over shared layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, get_args

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import (
    FiniteNonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Width,
    check_fields,
    not_empty,
)
from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.field_recommender import FieldRecommender
from tfrec_meta.models.base.recipe_space import recipe_space
from tfrec_meta.models.layers.experts import Bottom, BottomName, create_bottom
from tfrec_meta.models.layers.towers import on_unit_sphere
from tfrec_meta.models.losses import event_targets
from tfrec_meta.models.losses.retrieval_task import Choices, RetrievalLossConfig, RetrievalTask
from tfrec_meta.models.losses.task_weights import (
    WeightingName,
    gradnorm_targets,
    gradnorm_weights,
    uncertainty_loss,
)

_TASKS = ("retrieval", "click", "rating")  # the first of these in the config ranks the catalogue


@dataclasses.dataclass(frozen=True)
class MultiTaskConfig:
    """The config of `MultiTask`.

    Args:
        tasks: any of "retrieval" (predicts the item of an event, by an in-batch softmax), "rating"
            (predicts the value of an event, in any unit) and "click" (predicts whether the value is
            `click_threshold` or more).
        bottom: the layers that the tasks share: "shared", "mmoe" or "ple".
        experts: of "mmoe"; of "ple" the shared experts of a layer, and those of each task.
        layers: layers of "ple".
        hidden: widths of the layers of an expert below its last one, at least one.
        embedding_dim: d, of each field and of the vectors whose product is a head.
        user_id: whether the user has a field and a bias.
        user_features: whether user and context features have fields.
        item_features: whether item features have fields.
        temperature: divides the logits of "retrieval".
        weighting: how the losses of the tasks are weighted: "fixed"; "uncertainty" (Kendall et al.,
            CVPR 2018); "gradnorm" (Chen et al., ICML 2018).
        weights: for "fixed", one per task; empty for 1 each.
        gradnorm_alpha: how strongly "gradnorm" balances the training rates of the tasks.
        click_threshold: the lowest value that is a click.
    """

    tasks: tuple[str, ...] = ("retrieval", "rating", "click")
    bottom: BottomName = "mmoe"
    experts: PositiveInt = 3
    layers: PositiveInt = 2
    hidden: Annotated[tuple[Width, ...], not_empty()] = (64,)
    embedding_dim: Width = 32
    user_id: bool = False
    user_features: bool = True
    item_features: bool = True
    temperature: PositiveFloat = 0.25
    weighting: WeightingName = "fixed"
    weights: tuple[FiniteNonNegativeFloat, ...] = ()
    gradnorm_alpha: FiniteNonNegativeFloat = 1.5
    click_threshold: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or set(self.tasks) - {*_TASKS}:
            raise ParameterError(
                f"`tasks`={self.tasks}; use one or more of {_TASKS}, each once.", "tasks"
            )
        if self.weights and (self.weighting != "fixed" or len(self.weights) != len(self.tasks)):
            raise ParameterError(
                f"`weights`={self.weights}, but there are {len(self.tasks)} tasks and `weighting`="
                f"{self.weighting!r}. Use one weight per task with 'fixed', or no weights.",
                "weights",
                "weighting",
            )
        if self.weights and not any(self.weights):
            raise ParameterError(f"`weights`={self.weights}; use at least one above 0.", "weights")


def _main_task(config: MultiTaskConfig) -> str:
    """The task that selects and serves the model: the first of `_TASKS` among the config's."""
    return next(task for task in _TASKS if task in config.tasks)


class MultiTask(FieldRecommender):
    """A model whose heads are dot products of a query vector and an item vector per task.

    On each side, shared layers turn the fields into these vectors and add the sum of the fields.
    The query vector also has a constant 1 and the bias of the user, the item vector its bias and a
    1. So the dot product is the logit of every head, and the catalogue takes one matrix product.

    Attributes:
        item_index: float32 Variable [T, items, d + 2], the item vectors.
    """

    family = "multi_task"
    config_type = MultiTaskConfig
    has_embeddings = True
    warm_start_fields = ("embedding_dim", "tasks")

    def __init__(self, config: MultiTaskConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        count, items = len(config.tasks), len(spec.items)
        self.main_task = _main_task(config)
        self.add_biases([count])
        self.query_bottom = self._bottom(self.query_width)
        self.item_bottom = self._bottom(self.item_width)
        index = tf.zeros([count, items, config.embedding_dim + 2])
        self.item_index = tf.Variable(index, trainable=False, name="item_index")
        self.ranking_tasks = {
            task: event_targets.ranking_task(task) for task in config.tasks if task != "retrieval"
        }
        loss = RetrievalLossConfig(temperature=config.temperature)
        self.retrieval_task = RetrievalTask(loss, items, config.embedding_dim + 2)
        if config.weighting != "fixed":
            # Log variances, or the logits of the weights of GradNorm.
            self.task_weights = self.add_weight(
                name="task_weights", shape=[count], initializer="zeros"
            )
            self.first_losses = tf.Variable(tf.zeros([count]), trainable=False, name="first_losses")

    @classmethod
    def targets_of(cls, config: Any) -> Sequence[str]:
        return [task for task in config.tasks if task != "retrieval"]

    @classmethod
    def objective_of(cls, config: Any) -> Objective:
        return event_targets.objective_of(_main_task(config))

    def observed(self, target: str, value: np.ndarray) -> np.ndarray:
        return event_targets.observed(target, value, self.config.click_threshold)

    # Training.

    def prepare(self, data: Interactions | StreamedInteractions) -> None:
        super().prepare(data)
        usual = np.zeros(len(self.config.tasks), np.float32)
        bias = np.zeros(self.item_bias.shape, np.float32)
        for place, task in enumerate(self.config.tasks):
            if task == "retrieval":
                bias[1:, place] = self.prior()
                bias[0, place] = bias[1:, place].min()  # as the least popular known item
            else:
                usual[place] = event_targets.usual_logit(task, data, self.config.click_threshold)
        self.usual.assign(usual)
        self.item_bias.assign(bias)

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """Returns the weighted loss of a batch of events, float32 scalar.

        Args:
            inputs: an encoded query batch, `item_id` int32 [B], for "click" and "rating" the
                `value` float32 [B], and optionally `sample_weight` float32 [B].
            training: whether "gradnorm" records the first losses.
        """
        self.refuse_windows(inputs)
        if self.config.weighting != "gradnorm":
            losses = self.task_losses(inputs)
            if self.config.weighting == "uncertainty":
                squared = [task == "rating" for task in self.config.tasks]
                return uncertainty_loss(losses, self.task_weights, squared)
            return tf.reduce_sum(tf.constant(self.config.weights or 1.0, tf.float32) * losses)
        shared = self.query_bottom.last_shared + self.item_bottom.last_shared
        with tf.GradientTape(persistent=True) as tape:
            losses = self.task_losses(inputs)
            each = tf.unstack(losses)
        norms = tf.stop_gradient(
            tf.stack([tf.linalg.global_norm(tape.gradient(loss, shared)) for loss in each])
        )
        if training:
            # Only once: a step may have several batches.
            first = self.first_losses.read_value()
            self.first_losses.assign(tf.where(first == 0, losses, first))
        weights = gradnorm_weights(self.task_weights)
        norms *= weights
        wanted = gradnorm_targets(norms, losses, self.first_losses, self.config.gradnorm_alpha)
        off = tf.reduce_sum(tf.abs(norms - tf.stop_gradient(wanted)))
        # The weights learn from `off` alone and all else from the losses; the value is the latter.
        return tf.reduce_sum(tf.stop_gradient(weights) * losses) + off - tf.stop_gradient(off)

    def task_losses(self, inputs: Query) -> tf.Tensor:
        """Returns the loss of each task before weighting, float32 [T]."""
        rows, weight = inputs["item_id"], inputs.get("sample_weight")
        query = self._query_vectors(inputs)
        item = self._item_vectors(self._known_item(rows))
        losses = []
        for task in self.config.tasks:
            if task == "retrieval":
                feedback = inputs.get("feedback")
                loss = self.retrieval_task(
                    Choices(query[task], rows, inputs["history"], None, weight, feedback),
                    lambda items: self._item_vectors(self._known_item(items))["retrieval"],
                    self.sampling_counts,
                    tf.zeros([2], tf.int64),  # nothing is drawn
                    merge=not self.step_options.compiled,
                )
            else:
                logits = tf.reduce_sum(query[task] * item[task], axis=1, keepdims=True)
                threshold = self.config.click_threshold
                scale = self.rating_scale.read_value()
                labels = event_targets.labels_of(task, inputs["value"], threshold, scale)[:, None]
                loss = tf.reduce_mean(
                    self.ranking_tasks[task](
                        labels, logits, sample_weight=weight, compute_metrics=False
                    )
                )
            losses.append(loss)
        return tf.stack(losses)

    def refresh(self) -> None:
        """Recomputes `item_index`, which scoring reads."""

        def vectors(rows: tf.Tensor) -> tf.Tensor:
            return tf.stack(list(self._item_vectors(self._known_item(rows)).values()))

        self.item_index.assign(self._over_catalogue(vectors, axis=1))

    # The contract.

    def embed_query(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, embedding_dim + 2] of the task that ranks the catalogue."""
        return self._in_unit(self.main_task, self._query_vectors(query)[self.main_task])

    def embed_item(self, item: Query) -> tf.Tensor:
        """Returns float32 [B, embedding_dim + 2] of the task that ranks the catalogue."""
        return self._item_vectors(item)[self.main_task]

    def item_embeddings(self) -> tf.Tensor:
        """Returns float32 [catalogue, embedding_dim], without the bias."""
        return self._index(self.main_task)[1:, :-2]

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        vector = self.embed_query(query)
        if items is None:
            return tf.matmul(vector, self._index(self.main_task)[1:], transpose_b=True)
        return self._of_items(vector, self.main_task, items)

    def predictions(self, query: Query, items: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors = self._query_vectors(query)
        return {
            task: event_targets.prediction_of(
                task, self._of_items(vectors[task], task, items), self.rating_scale.read_value()
            )
            for task in self.targets
        }

    def other_weights(self) -> dict[str, list[tf.Variable]]:
        bottom = self.config.bottom
        found = super().other_weights()
        found[f"{bottom} of queries"] = self.query_bottom.weights
        found[f"{bottom} of items"] = self.item_bottom.weights
        if self.config.weighting != "fixed":
            found[self.config.weighting] = [self.task_weights]
        return found

    @staticmethod
    def search_space(hp: Any) -> dict[str, dict[str, Any]]:
        """Declares the hyperparameters; the tasks are part of the problem and are not searched."""
        default = MultiTaskConfig()
        model = {
            "bottom": hp.Choice("bottom", list(get_args(BottomName)), default=default.bottom),
            "embedding_dim": hp.Choice("embedding_dim", [16, 32, 64], default=32),
            "hidden": (128, 64) if hp.Boolean("second_layer", default=False) else default.hidden,
            "user_id": hp.Boolean("user_id", default=default.user_id),
            "user_features": hp.Boolean("user_features", default=default.user_features),
            "item_features": hp.Boolean("item_features", default=default.item_features),
            "temperature": hp.Float(
                "temperature", 0.02, 1.0, sampling="log", default=default.temperature
            ),
            "weighting": hp.Choice(
                "weighting", list(get_args(WeightingName)), default=default.weighting
            ),
        }
        with hp.conditional_scope("bottom", ["mmoe", "ple"]):
            model["experts"] = hp.Int("experts", 1, 4, default=default.experts)
        with hp.conditional_scope("bottom", ["ple"]):
            model["layers"] = hp.Int("layers", 1, 2, default=default.layers)
        return {"model": model, "training": recipe_space(hp)}

    # Parts.

    def _bottom(self, width: int) -> Bottom:
        config = self.config
        bottom = create_bottom(
            config.bottom,
            config.tasks,
            config.embedding_dim,
            config.hidden,
            config.experts,
            config.layers,
        )
        bottom(tf.zeros([1, width]))
        return bottom

    def _query_vectors(self, query: Query) -> dict[str, tf.Tensor]:
        """float32 [B, d + 2] by task: the vector, a 1, and the bias of the user and the task."""
        vectors = self._task_vectors(self.query_bottom, self.query_fields(query))
        own = self.usual[None]
        if self.user_bias is not None:
            known = tf.cast(self._has_user_events(query["user_id"]), tf.float32)[:, None]
            own += known * tf.gather(self.user_bias, query["user_id"])
        one = tf.ones([tf.shape(query["user_id"])[0], 1])
        own = one * own
        found = {}
        for place, (task, vector) in enumerate(vectors.items()):
            if task == "retrieval":
                vector = on_unit_sphere(vector) / self.config.temperature
            found[task] = tf.concat([vector, one, own[:, place : place + 1]], axis=1)
        return found

    def _item_vectors(self, item: Query) -> dict[str, tf.Tensor]:
        """float32 [n, d + 2] by task: the vector, the bias of the item, and a 1."""
        vectors = self._task_vectors(self.item_bottom, self.item_fields(item))
        bias = tf.gather(self.item_bias, item["item_id"])
        one = tf.ones([tf.shape(item["item_id"])[0], 1])
        found = {}
        for place, (task, vector) in enumerate(vectors.items()):
            if task == "retrieval":
                vector = on_unit_sphere(vector)
            found[task] = tf.concat([vector, bias[:, place : place + 1], one], axis=1)
        return found

    def _task_vectors(self, bottom: Bottom, fields: tf.Tensor) -> dict[str, tf.Tensor]:
        dim = self.config.embedding_dim
        total = tf.reduce_sum(tf.reshape(fields, [-1, fields.shape[1] // dim, dim]), axis=1)
        return {task: total + vector for task, vector in bottom(fields).items()}

    def _in_unit(self, task: str, query: tf.Tensor) -> tf.Tensor:
        """Query vectors [B, d + 2] whose products with item vectors are in the unit of the data."""
        if task != "rating":
            return query
        mean, spread = tf.unstack(self.rating_scale.read_value())
        return tf.concat([query[:, :-1] * spread, query[:, -1:] * spread + mean], axis=1)

    def _index(self, task: str) -> tf.Tensor:
        return self.item_index[self.config.tasks.index(task)]

    def _of_items(self, vector: tf.Tensor, task: str, items: tf.Tensor) -> tf.Tensor:
        return tf.einsum("bd,bcd->bc", vector, tf.gather(self._index(task), items))
