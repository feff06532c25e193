"""Multi-task learning: retrieval, rating and click heads over bottoms that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import tensorflow as tf

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec, Vocabulary
from tfrec_meta.models.base import targets
from tfrec_meta.models.base.contract import Query
from tfrec_meta.models.base.field_recommender import FieldRecommender, recipe_space
from tfrec_meta.models.layers.experts import Bottom, BottomName, made_bottom
from tfrec_meta.models.layers.towers import on_unit_sphere
from tfrec_meta.models.losses.retrieval_task import RetrievalLossConfig, RetrievalTask
from tfrec_meta.models.losses.task_weights import (
    WeightingName,
    gradnorm_targets,
    gradnorm_weights,
    uncertainty_loss,
)

_TASKS = ("retrieval", "click", "rating")  # the first that there is ranks the catalogue


@dataclasses.dataclass(frozen=True)
class MultiTaskConfig:
    """Shape and tasks of a multi-task model.

    Args:
        tasks: any of "retrieval" (which item an event is of, by in-batch softmax), "rating" (an
            event's value) and "click" (whether that is `click_threshold` or more).
        bottom: "shared", "mmoe" or "ple".
        experts: of "mmoe"; of "ple" the shared ones of a layer, and each task's.
        layers: of "ple".
        hidden: widths of an expert's layers below its last, at least one.
        embedding_dim: d, of each field and of the vectors whose product a head is.
        user_id: whether there is a field, and a bias, of the user.
        user_features: whether there are fields of the user's and the context's features.
        item_features: whether there are fields of the item's features.
        temperature: divides the logits of "retrieval".
        weighting: of the tasks' losses: "fixed"; "uncertainty" (Kendall et al., CVPR 2018);
            "gradnorm" (Chen et al., ICML 2018).
        weights: of "fixed", one a task; none for 1 each.
        gradnorm_alpha: how strongly "gradnorm" balances how far the tasks have come.
        click_threshold: the least value that is a click.
    """

    tasks: tuple[str, ...] = ("retrieval", "rating", "click")
    bottom: BottomName = "mmoe"
    experts: int = 3
    layers: int = 2
    hidden: tuple[int, ...] = (64,)
    embedding_dim: int = 32
    user_id: bool = False
    user_features: bool = True
    item_features: bool = True
    temperature: float = 0.25
    weighting: WeightingName = "fixed"
    weights: tuple[float, ...] = ()
    gradnorm_alpha: float = 1.5
    click_threshold: float = 4.0

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks) or set(self.tasks) - {*_TASKS}:
            raise ValueError(f"`tasks`={self.tasks}; use one or more of {_TASKS}, each once.")
        for name, known in (("bottom", BottomName), ("weighting", WeightingName)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"`{name}`={getattr(self, name)!r}; use one of {get_args(known)}.")
        for name in ("experts", "layers", "embedding_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")
        if not self.hidden or any(width < 1 for width in self.hidden):
            raise ValueError(f"`hidden`={self.hidden}; use at least one width, each 1 or more.")
        if not self.temperature > 0:
            raise ValueError(f"`temperature`={self.temperature}; use a number above 0.")
        if self.weights and (self.weighting != "fixed" or len(self.weights) != len(self.tasks)):
            raise ValueError(
                f"`weights`={self.weights}, but {len(self.tasks)} tasks are weighed by "
                f"`weighting`={self.weighting!r}. Use one a task, with 'fixed'; or none."
            )
        if any(not 0 <= weight < float("inf") for weight in self.weights):
            raise ValueError(f"`weights`={self.weights}; use numbers from 0.")
        if self.weights and not any(self.weights):
            raise ValueError(f"`weights`={self.weights}; use at least one above 0.")
        if not 0 <= self.gradnorm_alpha < float("inf"):
            raise ValueError(f"`gradnorm_alpha`={self.gradnorm_alpha}; use 0 or more.")


def _main_task(config: MultiTaskConfig) -> str:
    """The task that selects and serves the model: the first of `_TASKS` among the config's."""
    return next(task for task in _TASKS if task in config.tasks)


class MultiTask(FieldRecommender):
    """A `tfrs.Model` whose heads are dot products of a query's and an item's vector for the task.

    A bottom on each side makes these vectors of the fields, on top of the sum of the fields. The
    query's vector carries a constant 1 and what is the user's, the item's its bias and a 1, so that
    the plain product is the logit of every head, and the catalogue takes one matrix product.

    Attributes:
        usual: float32 Variable [T], the mean rating, and the log odds of a click.
        item_index: float32 Variable [T, items, d + 2], the items' vectors.
    """

    family = "multi_task"
    config_type = MultiTaskConfig
    has_embeddings = True
    warm_start_fields = ("embedding_dim", "tasks")

    def __init__(self, config: MultiTaskConfig, spec: FeatureSpec):
        super().__init__(config, spec)
        count, items, users = len(config.tasks), len(spec.items), len(spec.users)
        self.main_task = _main_task(config)
        self.item_bias = self.add_weight(
            name="item_bias", shape=[items, count], initializer="zeros"
        )
        self.user_bias = (
            self.add_weight(name="user_bias", shape=[users, count], initializer="zeros")
            if config.user_id
            else None
        )
        self.usual = tf.Variable(tf.zeros([count]), trainable=False, name="usual")
        self.query_bottom = self._bottom(self.query_width)
        self.item_bottom = self._bottom(self.item_width)
        index = tf.zeros([count, items, config.embedding_dim + 2])
        self.item_index = tf.Variable(index, trainable=False, name="item_index")
        self.ranking_tasks = {
            task: targets.ranking_task(task) for task in config.tasks if task != "retrieval"
        }
        loss = RetrievalLossConfig(temperature=config.temperature)
        self.retrieval_task = RetrievalTask(loss, items, config.embedding_dim + 2)
        if config.weighting != "fixed":
            # Log variances, or what GradNorm's weights are the softmax of.
            self.task_weights = self.add_weight(
                name="task_weights", shape=[count], initializer="zeros"
            )
            self.first_losses = tf.Variable(tf.zeros([count]), trainable=False, name="first_losses")

    @property
    def targets(self) -> Sequence[str]:
        return [task for task in self.config.tasks if task != "retrieval"]

    @classmethod
    def objective_of(cls, config: Any) -> Objective:
        return targets.objective_of(_main_task(config))

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
                usual[place] = targets.usual_logit(task, data, self.config.click_threshold)
        self.usual.assign(usual)
        self.item_bias.assign(bias)

    def compute_loss(self, inputs: Query, training: bool = False) -> tf.Tensor:
        """The weighed losses of a batch of events.

        Args:
            inputs: an encoded query batch, `item_id` int32 [B], of "click" and "rating" the `value`
                float32 [B], and optionally a `sample_weight` float32 [B].
            training: whether "gradnorm" takes note of the first losses.
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
            # Once: a step may have several batches.
            first = self.first_losses.read_value()
            self.first_losses.assign(tf.where(first == 0, losses, first))
        weights = gradnorm_weights(self.task_weights)
        norms *= weights
        wanted = gradnorm_targets(norms, losses, self.first_losses, self.config.gradnorm_alpha)
        off = tf.reduce_sum(tf.abs(norms - tf.stop_gradient(wanted)))
        # The weights learn from `off` alone, all else from the losses; the value is the losses'.
        return tf.reduce_sum(tf.stop_gradient(weights) * losses) + off - tf.stop_gradient(off)

    def task_losses(self, inputs: Query) -> tf.Tensor:
        """The loss of each task before it is weighed, float32 [T]."""
        rows, weight = inputs["item_id"], inputs.get("sample_weight")
        query = self._query_vectors(inputs)
        item = self._item_vectors(self._known_item(rows))
        losses = []
        for task in self.config.tasks:
            if task == "retrieval":
                loss = self.retrieval_task(
                    query[task],
                    rows,
                    lambda items: self._item_vectors(self._known_item(items))["retrieval"],
                    inputs["history"],
                    None,
                    self.item_counts,
                    tf.zeros([2], tf.int64),  # nothing is drawn
                    weight,
                    merge=not self.step_options.compiled,
                )
            else:
                logits = tf.reduce_sum(query[task] * item[task], axis=1, keepdims=True)
                threshold = self.config.click_threshold
                labels = targets.labels_of(task, inputs["value"], threshold)[:, None]
                loss = tf.reduce_mean(
                    self.ranking_tasks[task](
                        labels, logits, sample_weight=weight, compute_metrics=False
                    )
                )
            losses.append(loss)
        return tf.stack(losses)

    def refresh(self, chunk: int = 65_536) -> None:
        """Recomputes the vectors of the whole catalogue, which `logits` uses; after training."""
        rows = tf.range(self.item_index.shape[1])
        parts = [
            tf.stack(
                list(self._item_vectors(self._known_item(rows[start : start + chunk])).values())
            )
            for start in range(0, len(rows), chunk)
        ]
        self.item_index.assign(tf.concat(parts, axis=1))

    # The contract.

    def embed_query(self, query: Query) -> tf.Tensor:
        """float32 [B, embedding_dim + 2], of the task that ranks the catalogue."""
        return self._query_vectors(query)[self.main_task]

    def embed_item(self, item: Query) -> tf.Tensor:
        """float32 [B, embedding_dim + 2]; `item` holds item_id int32 [B] and encoded features."""
        return self._item_vectors(item)[self.main_task]

    def item_embeddings(self) -> tf.Tensor:
        """float32 [catalogue, embedding_dim], the bias left out: how like two items are."""
        return self._index(self.main_task)[1:, :-2]

    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        vector = self.embed_query(query)
        if items is None:
            return tf.matmul(vector, self._index(self.main_task)[1:], transpose_b=True)
        return self._of_items(vector, self.main_task, items)

    def predictions(self, query: Query, items: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors = self._query_vectors(query)
        return {
            task: targets.prediction_of(task, self._of_items(vectors[task], task, items))
            for task in self.targets
        }

    def has_evidence(self, query: Query) -> tf.Tensor:
        """Of a click or a rating always: what is usual, and of the item, goes for anyone."""
        if self.main_task != "retrieval":
            return tf.ones([tf.shape(query["user_id"])[0]], tf.bool)
        return super().has_evidence(query)

    def rows_of_tokens(self) -> dict[str, tuple[tf.Variable, Vocabulary]]:
        found = {**super().rows_of_tokens(), "item_bias": (self.item_bias, self.spec.items)}
        if self.user_bias is not None:
            found["user_bias"] = (self.user_bias, self.spec.users)
        return found

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
        """See the contract. The tasks are no matter of taste: they are the strategy's."""
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
        bottom = made_bottom(
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
        """float32 [B, d + 2] by task: the vector, a 1, and what goes for all items."""
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
        """float32 [n, d + 2] by task: the vector, the item's bias, and a 1."""
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

    def _index(self, task: str) -> tf.Tensor:
        return self.item_index[self.config.tasks.index(task)]

    def _of_items(self, vector: tf.Tensor, task: str, items: tf.Tensor) -> tf.Tensor:
        return tf.einsum("bd,bcd->bc", vector, tf.gather(self._index(task), items))
