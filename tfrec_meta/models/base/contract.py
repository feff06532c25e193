"""The model contract: what every family offers, so that one exporter, one trainer and one test
suite serve all families.

A family is a `tf.Module` or a `tfrs.Model` that also inherits from `Recommender`. It works on
encoded queries; see `Query`. Item rows start at 1, and row 0 is the unknown item. Column j of a
score matrix belongs to the item of row j + 1.
"""

from __future__ import annotations

import dataclasses
import enum
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrec_meta.data import (
    Interactions,
    PersonalColumn,
    StreamedInteractions,
    personal_columns,
)
from tfrec_meta.evaluation.judged import EventSummary
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec, Vocabulary
from tfrec_meta.features.kinds import Feature
from tfrec_meta.io.files import atomic_folder
from tfrec_meta.io.manifests import write_manifest
from tfrec_meta.models.base.configs import read_config
from tfrec_meta.models.base.member import Member
from tfrec_meta.models.base.saving import SavedModel
from tfrec_meta.models.losses.teacher import Query, Teacher

__all__ = ["Query", "Recommender", "Teacher", "UserIds", "WarmStartError", "event_counts"]


class UserIds(enum.IntEnum):
    """What a model reads from the id of a user."""

    UNUSED = 0  # nothing: scores depend on history and features only
    FEATURES = 1  # the features that the users table of the training had
    EMBEDDING = 2  # an embedding of the user


Weighing = Literal["none", "positive", "weights"]
"""How `event_counts` counts events with declared feedback."""


class WarmStartError(ValueError):
    """A model cannot start from the weights of an earlier model."""


class Recommender(Teacher):
    """The base class of all model families.

    A family sets `family` and `config_type`, and implements `fit`, `logits`, `has_evidence`,
    `state` and `restore`. The class attributes declare its optional capabilities; a method of a
    capability that the family does not have raises NotImplementedError.

    Attributes:
        family: the name of the family, a key of `FAMILIES`.
        config_type: the type of its config.
        trains_by_steps: whether `training.fit` trains the family in gradient steps. Otherwise
            `fit` takes all events at once.
        fits_streams: whether the family can be fitted on `StreamedInteractions`.
        has_embeddings: whether a score is the dot product of `embed_query` and `embed_item`.
        adapts: whether the family has `adapt`.
        adapts_by_features: whether `adapt` takes user features in addition to the support set.
        config: the frozen dataclass that shapes the model. It round-trips through JSON.
        spec: the fitted FeatureSpec.
        members: the fitted models that the model consists of; empty for most families.
        item_counts: float32 Variable [catalogue], interactions per item in the training data; with
            declared feedback the sum of the weights of its positive events, of which the mean
            weight is 1.
        items: the items table of the training data, for titles and filters; None without one.
        curve: the learning curve, one dict per epoch; empty for families without epochs.
        personal_columns: the columns of the training data that looked personal.
        trained_on: the size of the training data; None if it is not known.
    """

    family: ClassVar[str]
    config_type: ClassVar[type]
    trains_by_steps: ClassVar[bool] = False
    fits_streams: ClassVar[bool] = False
    adapts: ClassVar[bool] = False
    adapts_by_features: ClassVar[bool] = False

    config: Any
    members: Sequence[Recommender] = ()
    item_counts: tf.Variable
    variables: Sequence[tf.Variable]  # TensorFlow's own
    items: pa.Table | None = None
    curve: Sequence[Mapping[str, float]] = ()
    personal_columns: Sequence[PersonalColumn] = ()
    trained_on: EventSummary | None = None

    # Every family implements these.

    @abstractmethod
    def fit(self, data: Interactions) -> Any:
        """Learns from all events at once.

        A family that `trains_by_steps` inherits the `fit` of Keras; use `training.fit` for it.
        """

    @abstractmethod
    def logits(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the scores of a batch of queries.

        Args:
            query: encoded queries.
            items: int32 [B, C] item rows; None for the whole catalogue.

        Returns:
            float32 [B, C] or [B, catalogue].
        """

    @abstractmethod
    def has_evidence(self, query: Query) -> tf.Tensor:
        """Returns bool [B]: whether the model has any information about each user."""

    @abstractmethod
    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores the arrays that `state` returned.

        Raises:
            ValueError: if an array has another shape.
        """

    # Optional capabilities.

    def embed_query(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, d], the embeddings of queries; only with `has_embeddings`."""
        raise self._lacks("query embeddings", "has_embeddings")

    def embed_item(self, item: Query) -> tf.Tensor:
        """Returns float32 [B, d], the embeddings of items; only with `has_embeddings`.

        Args:
            item: `item_id` int32 [B] and the encoding of each item feature.
        """
        raise self._lacks("item embeddings", "has_embeddings")

    def item_embeddings(self) -> tf.Tensor:
        """Returns float32 [catalogue, d], in which similar items are close; only with
        `has_embeddings`."""
        raise self._lacks("item embeddings", "has_embeddings")

    def predictions(self, query: Query, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns float32 [B, C] for each of `targets`: ratings, or probabilities of a click.

        Args:
            query: encoded queries.
            items: int32 [B, C] item rows.
        """
        raise self._lacks("predictions of single events", "targets")

    def observed(self, target: str, value: np.ndarray) -> np.ndarray:
        """Returns what `predictions` are compared with; only with `targets`.

        Args:
            target: one of `targets`.
            value: [n], the values of events.

        Returns:
            The values for "rating"; for "click", bool [n]: whether each is a click.
        """
        raise self._lacks("predictions of single events", "targets")

    def adapt(
        self,
        items: tf.Tensor,
        labels: tf.Tensor,
        features: Mapping[str, tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Adapts to support sets of new users inside the graph; only with `adapts`.

        Args:
            items: int32 [B, S] item rows; 0 pads and stands for unknown items.
            labels: float32 [B, S].
            features: the encoding of user features by name, [B, w]; absent ones are unknown. No
                effect without `adapts_by_features`.

        Returns:
            float32 [B, catalogue] scores, and int32 [B] the number of support events used.
        """
        raise self._lacks("`adapt`", "adapts")

    def _lacks(self, what: str, flag: str) -> NotImplementedError:
        return NotImplementedError(
            f"Family {self.family!r} has no {what}. Check `{flag}` of the model first."
        )

    @staticmethod
    def search_space(hp: Any) -> dict[str, Any]:
        """Declares the hyperparameters of the family; by default none.

        All hyperparameters are declared in every call, with their conditions, whatever values are
        chosen. Each default is the default of the config or of the recipe.

        Args:
            hp: `keras_tuner.HyperParameters`, within a name scope of the family.

        Returns:
            The chosen values as parts of a strategy: {"model": fields of the config, "training":
            fields of the recipe}, with None for a hyperparameter that another choice makes
            meaningless. A family that can learn from a teacher may add "teacher", the name of a
            family or None.
        """
        return {"model": {}, "training": {}}

    @classmethod
    def objective_of(cls, config: Any) -> Objective:
        """Returns the validation metric by which models of this config are selected."""
        return Objective.NDCG

    @property
    def objective(self) -> Objective:
        """The validation metric by which this model is selected."""
        return self.objective_of(self.config)

    @classmethod
    def targets_of(cls, config: Any) -> Sequence[str]:
        """Returns which of "rating" and "click" a model of this config predicts for single events;
        by default none."""
        return ()

    @property
    def targets(self) -> Sequence[str]:
        """Which of "rating" and "click" the model predicts for single events."""
        return self.targets_of(self.config)

    @property
    def user_ids(self) -> UserIds:
        """What the model reads from the id of a user, which decides what an export holds."""
        return max((member.user_ids for member in self.members), default=UserIds.UNUSED)

    @property
    def query_features(self) -> frozenset[Feature]:
        """The query features that the model reads; an export holds no values of the others."""
        return frozenset().union(*(member.query_features for member in self.members))

    @property
    def default_label(self) -> float:
        """The label of a support item of `adapt` that comes without one."""
        return 1.0

    # Hooks of training. The defaults suit most families.

    def observe(self, data: Interactions | StreamedInteractions) -> None:
        """Counts the events per item (`item_counts`, which the prior uses), and keeps `items` and
        `personal_columns`.

        With declared feedback, positive events are counted by their weights. A model of ratings or
        clicks learns from all events and counts them alike.
        """
        self.items = data.items
        self.personal_columns = personal_columns(data)
        weighing: Weighing = "none" if self.targets else "weights"
        counts = event_counts(data, "item_id", self.spec.items, weighing)[1:]
        self.item_counts.assign(counts.astype(np.float32))

    def refresh(self) -> None:
        """Recomputes cached values that scoring reads in place of the weights, if there are any.

        Called after training, and before each validation during training.
        """

    def warm_start(self, earlier: Recommender) -> None:
        """Takes the weights of an earlier model; only for families that train by steps.

        Rows are matched by token: tokens that both models have keep the earlier values bit by bit,
        new tokens keep their initial values.

        Args:
            earlier: a fitted model of the same family.

        Raises:
            WarmStartError: if the earlier model has another family or shape, or the family cannot
                start from earlier weights.
        """
        raise WarmStartError(
            f"Family {self.family!r} is solved from all events at once and cannot start from "
            "earlier weights. Leave out `warm_start`."
        )

    def teach(self, teacher: Teacher) -> None:
        """Adds the loss of a teacher to the training; only where the family supports it.

        Args:
            teacher: fitted; its FeatureSpec `takes_queries_of` this model's.

        Raises:
            ValueError: if the family or the config does not support a teacher, or the teacher has
                another catalogue.
        """
        self.check_teachable(self.config)

    @classmethod
    def check_teachable(cls, config: Any) -> None:
        """Checks whether a model of this config can learn from a teacher.

        Raises:
            ValueError: if it cannot.
        """
        raise ValueError(f"Family {cls.family!r} cannot learn from a teacher. Leave out `teacher`.")

    def idle_settings(self, taught: bool = False) -> set[str]:
        """Returns the fields of the config that have no effect, given the others; for pages.

        Args:
            taught: whether the model learned from a teacher.
        """
        return set()

    @classmethod
    def members_of(cls, config: Any) -> Sequence[Member]:
        """Returns the members that a model of this config consists of; by default none."""
        return ()

    def unite(self, members: Sequence[Recommender]) -> None:
        """Takes the fitted members; only for families with `members_of`.

        Args:
            members: in the order of the config.

        Raises:
            ValueError: if they are not the members of the config, or have another FeatureSpec.
        """
        if members:
            raise ValueError(f"Family {self.family!r} has no members. Leave them out.")

    @property
    def chooses_weights(self) -> bool:
        """Whether the config asks for `choose_weights` on the validation events."""
        return False

    def choose_weights(self, score: Callable[[], float]) -> None:
        """Chooses weights on the validation events; only where `chooses_weights` is True.

        Args:
            score: evaluates the model with its present weights; higher is better.
        """
        raise self._lacks("weights to tune", "chooses_weights")

    def take_weights(self, judged: Recommender) -> None:
        """Takes the weights that another model of the same config chose; see `choose_weights`."""
        raise self._lacks("weights to tune", "chooses_weights")

    # Shared by all families.

    def _begin(self, config: Any, spec: FeatureSpec) -> None:
        """Keeps config and spec; the first call of every family's constructor.

        Raises:
            ValueError: if the spec is not fitted.
        """
        if not spec.is_fitted:
            raise ValueError("The FeatureSpec is not fitted; pass `spec.fit(data)`.")
        self.config = config
        self.spec = spec
        self.item_counts = tf.Variable(
            tf.zeros([spec.catalogue_size]), trainable=False, name="item_counts"
        )

    def prior(self) -> np.ndarray:
        """Returns float32 [catalogue]: the log probability of each item for an unknown user."""
        return self._prior_logits().numpy()

    def _prior_logits(self) -> tf.Tensor:
        # Add-one smoothing: an item without interactions has a probability above 0.
        counts = self.item_counts.read_value() + 1.0
        return tf.math.log(counts) - tf.math.log(tf.reduce_sum(counts))

    def _prior_rows(self) -> tf.Tensor:
        """The prior by item row, float32 [items + 1]; the unknown item has the lowest value."""
        prior = self._prior_logits()
        return tf.concat([tf.reduce_min(prior, keepdims=True), prior], axis=0)

    def logits_or_prior(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        """Returns `logits`, with the prior in the rows of users without evidence."""
        if items is None:
            without = self._prior_logits()[None, :]
        else:
            without = tf.gather(self._prior_rows(), items)
        known = self.has_evidence(query)[:, None]
        return tf.where(known, self.logits(query, items), without)

    def score(
        self, queries: Mapping[str, np.ndarray], items: np.ndarray | None = None, batch: int = 1024
    ) -> np.ndarray:
        """Scores encoded queries in chunks.

        Args:
            queries: n rows, as `FeatureSpec.encode_queries` returns them.
            items: int32 [n, C] item rows; None for the whole catalogue.
            batch: rows per chunk; memory grows with it.

        Returns:
            float32 [n, catalogue] or [n, C].
        """
        n = len(queries["user_id"])
        chunks = []
        for start in range(0, n, batch):
            part = {name: tf.constant(v[start : start + batch]) for name, v in queries.items()}
            chosen = None if items is None else tf.constant(items[start : start + batch])
            chunks.append(self._score_graph(part, chosen).numpy())
        width = self.spec.catalogue_size if items is None else items.shape[1]
        return np.concatenate(chunks) if chunks else np.zeros((0, width), np.float32)

    def predict_events(
        self, queries: Mapping[str, np.ndarray], items: np.ndarray, batch: int = 8192
    ) -> dict[str, np.ndarray]:
        """Predicts single events in chunks.

        Args:
            queries: n rows, as `FeatureSpec.encode_queries` returns them.
            items: int32 [n], one item row per query.
            batch: rows per chunk; memory grows with it.

        Returns:
            float32 [n] for each of `targets`.
        """
        if not hasattr(self, "_predict_function"):
            self._predict_function = tf.function(self.predictions, reduce_retracing=True)
        chunks = []
        for start in range(0, len(items), batch):
            part = {name: tf.constant(v[start : start + batch]) for name, v in queries.items()}
            found = self._predict_function(part, tf.constant(items[start : start + batch, None]))
            chunks.append({target: value.numpy()[:, 0] for target, value in found.items()})
        return {
            target: np.concatenate([np.zeros(0, np.float32), *(chunk[target] for chunk in chunks)])
            for target in self.targets
        }

    @property
    def _score_graph(self) -> Callable[..., tf.Tensor]:
        if not hasattr(self, "_score_function"):
            self._score_function = tf.function(self.logits_or_prior, reduce_retracing=True)
        return self._score_function

    def serving_functions(self) -> dict[str, Callable[..., Any]]:
        """Returns the functions of encoded tensors that the exporter builds the signatures from."""
        functions: dict[str, Callable[..., Any]] = {"score": self.logits_or_prior}
        if self.has_embeddings:
            functions["embed_query"] = self.embed_query
            functions["embed_item"] = self.embed_item
        if self.targets:
            functions["predictions"] = self.predictions
        if self.adapts:
            functions["adapt"] = self.adapt
        return functions

    # Saving.

    def save(self, folder: Path | str, overwrite: bool = False) -> None:
        """Writes the model into a folder, which becomes visible only when it is complete.

        Raises:
            FileExistsError: if the folder exists and `overwrite` is False.
        """
        with atomic_folder(Path(folder), overwrite=overwrite) as new:
            self.write(new)
            write_manifest(new)

    def write(self, folder: Path) -> None:
        """Writes the model into an empty folder."""
        config = dataclasses.asdict(self.config)
        SavedModel(
            self.family,
            config,
            self.spec,
            self.state(),
            self.items,
            self.personal_columns,
            self.trained_on,
        ).write(folder)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        record: Mapping[str, Any],
        read_member: Callable[[Path], Recommender],
    ) -> Self:
        """Reads a saved model of this family.

        Args:
            folder: of the saved model.
            record: its `model.json`.
            read_member: reads the saved model of a member, of any family.
        """
        saved = SavedModel.read(folder, record)
        model = cls(read_config(cls.config_type, saved.config), saved.spec)  # type: ignore[call-arg]
        model.items = saved.items
        model.personal_columns = saved.personal_columns
        model.trained_on = saved.trained_on
        model.restore(saved.state)
        return model


def event_counts(
    data: Interactions | StreamedInteractions,
    key: str,
    vocabulary: Vocabulary,
    weighing: Weighing = "none",
) -> np.ndarray:
    """Counts the events of each row of a vocabulary.

    Args:
        data: events.
        key: the column, "user_id" or "item_id".
        vocabulary: of that column.
        weighing: which events count, if feedback is declared: "none" counts all alike, "positive"
            the positive ones alike, and "weights" these by their weights, divided by the mean.

    Returns:
        float64 [rows], whole numbers without weights; row 0 counts the events of unknown tokens.
    """
    counts = np.zeros(len(vocabulary), np.float64)
    number, total = 0, 0.0
    for part in data.parts():
        if weighing != "none":
            part = part.positive_events()
        weights = part.weights if weighing == "weights" else None
        if weights is not None:
            weights = weights.astype(np.float64)
        rows = vocabulary.encode(part.events[key])
        counts += np.bincount(rows, weights, minlength=len(vocabulary))
        number += len(part)
        total += len(part) if weights is None else weights.sum()
    return counts / (total / number) if number else counts
