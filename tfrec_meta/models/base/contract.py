"""The model contract: what every family offers, so that one suite, exporter and API serve all.

A family is a `tf.Module` (or a `tfrs.Model`) with this mixin. It works on encoded queries: dicts of
`user_id` int32 [B], `history` int32 [B, H] (0 pads) and the query features of its FeatureSpec. Item
rows start at 1; row 0 is the unknown item, and column j of a score matrix is the item of row j + 1.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec, Vocabulary
from tfrec_meta.io.files import atomic_folder

Query = Mapping[str, tf.Tensor]
_FORMAT = 1  # of the folder that `save` writes


class WarmStartError(ValueError):
    """A model that can't go on from an earlier one."""


class Teacher(Protocol):
    """Who can teach: a fitted model of any family can, and so can what `distillation` makes."""

    spec: FeatureSpec

    @property
    def has_embeddings(self) -> bool:
        """Whether it has vectors of items."""

    def logits_or_prior(self, query: Query) -> tf.Tensor:
        """float32 [B, catalogue] of an encoded query; column j is the item of row j + 1."""

    def item_embeddings(self) -> tf.Tensor:
        """float32 [catalogue, d], how like items are; only where it `has_embeddings`."""

    def state(self) -> dict[str, np.ndarray]:
        """All that it learned, by name: a training goes on only with the same teacher."""


class Recommender:
    """What a family adds: `family`, `config_type`, `logits`, `has_evidence`, `state`, `restore`.

    Attributes:
        config: the frozen dataclass that shapes the model; it round-trips through JSON.
        spec: the fitted FeatureSpec.
        item_counts: float32 Variable [catalogue], interactions of each item in the training data.
        items: the items table of the training data, for titles and filters; None without one.
        curve: one dict an epoch, what `training.train` returned; empty for closed forms.
    """

    family: ClassVar[str]
    config_type: ClassVar[type]
    has_embeddings: ClassVar[bool] = False
    adapts_by_features: ClassVar[bool] = False
    """Whether `adapt`, where there is one, takes user features beside the support set."""

    config: Any
    spec: FeatureSpec
    item_counts: tf.Variable
    variables: Sequence[tf.Variable]  # TensorFlow's own
    items: pa.Table | None = None
    curve: Sequence[Mapping[str, float]] = ()

    # What a family writes itself.

    fit: Callable[..., Any]
    """fit(data): learns in closed form; a family that is trained by steps has Keras's own `fit`,
    and its loss is for `training.train`."""

    logits: Callable[..., tf.Tensor]
    """logits(query, items=None): float32 [B, catalogue], or [B, C] for item rows int32 [B, C]."""

    has_evidence: Callable[[Query], tf.Tensor]
    """has_evidence(query): bool [B], whether the family knows anything of the user."""

    embed_query: Callable[[Query], tf.Tensor]
    """embed_query(query): float32 [B, d]; only where `has_embeddings`."""

    embed_item: Callable[[Query], tf.Tensor]
    """embed_item(item): float32 [B, d] of encoded item features; only where `has_embeddings`."""

    item_embeddings: Callable[[], tf.Tensor]
    """item_embeddings(): float32 [catalogue, d], how like items are; where `has_embeddings`."""

    predictions: Callable[[Query, tf.Tensor], dict[str, tf.Tensor]]
    """predictions(query, items): float32 [B, C] by target, the rating or the chance of a click, of
    item rows int32 [B, C]; only where there are `targets`."""

    state: Callable[[], dict[str, np.ndarray]]
    """state(): all learned arrays by name."""

    restore: Callable[[Mapping[str, np.ndarray]], None]
    """restore(state): takes back what `state` gave; raises ValueError on another shape."""

    @staticmethod
    def search_space(hp: Any) -> dict[str, Any]:
        """Declares what there is to tune; nothing, unless the family says otherwise.

        All of it is declared whatever is chosen, conditions included. Each default is the default
        of the config or the recipe.

        Args:
            hp: `keras_tuner.HyperParameters`, within a scope of the family's own.

        Returns:
            The chosen values as parts of a strategy: {"model": fields of the config, "training":
            fields of the recipe}; None for what another choice leaves without meaning. A family
            that can learn from a teacher may add "teacher", the name of a family or None.
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

    @property
    def targets(self) -> Sequence[str]:
        """What it predicts of single events, of "rating" and "click"; nothing by default."""
        return ()

    @property
    def default_label(self) -> float:
        """What an item of a support set of `adapt` counts as that comes without a label."""
        return 1.0

    # What all share.

    def _begin(self, config: Any, spec: FeatureSpec) -> None:
        """Checks and keeps config and spec; the first call of every family's constructor."""
        if not spec.is_fitted:
            raise ValueError("The FeatureSpec is not fitted; pass `spec.fit(data)`.")
        self.config = config
        self.spec = spec
        self.item_counts = tf.Variable(
            tf.zeros([spec.catalogue_size]), trainable=False, name="item_counts"
        )

    def observe(self, data: Interactions | StreamedInteractions) -> None:
        """Takes in what is counted: `item_counts`, of which the prior is made, and `items`."""
        self.items = data.items
        counts = event_counts(data, "item_id", self.spec.items)[1:]
        self.item_counts.assign(counts.astype(np.float32))

    def warm_start(self, earlier: Recommender) -> None:
        """Goes on from what an earlier model learned; only where a family is trained by steps.

        Rows are matched by token: what both models know has the earlier values to the bit, what is
        new keeps its own.

        Args:
            earlier: a fitted model of the same family.

        Raises:
            WarmStartError: if it is of another family or shape, or the family learns all anew.
        """
        raise WarmStartError(
            f"Family {self.family!r} is solved from the data at once, with nothing to go on from. "
            "Leave out `warm_start`."
        )

    def teach(self, teacher: Teacher) -> None:
        """Has the training follow a teacher, too; only where a family can.

        Args:
            teacher: fitted, of a FeatureSpec that `takes_queries_of` this one's.

        Raises:
            ValueError: if the family or its config can't, or the teacher knows other items.
        """
        self.check_teachable(self.config)

    @classmethod
    def check_teachable(cls, config: Any) -> None:
        """Raises:
        ValueError: if a model of this config can't learn from any teacher.
        """
        raise ValueError(f"Family {cls.family!r} learns from no teacher. Leave out `teacher`.")

    def prior(self) -> np.ndarray:
        """Log chance of each item for someone of whom nothing is known, float32 [catalogue]."""
        return self._prior_logits().numpy()

    def _prior_logits(self) -> tf.Tensor:
        # One more interaction for each item: an item that nobody touched has a chance, too.
        counts = self.item_counts.read_value() + 1.0
        return tf.math.log(counts) - tf.math.log(tf.reduce_sum(counts))

    def logits_or_prior(self, query: Query, items: tf.Tensor | None = None) -> tf.Tensor:
        """`logits`, and the prior in the rows of users of whom nothing is known."""
        prior = self._prior_logits()
        if items is None:
            without = prior[None, :]
        else:
            floor = tf.reduce_min(prior, keepdims=True)  # of the unknown item
            without = tf.gather(tf.concat([floor, prior], axis=0), items)
        known = self.has_evidence(query)[:, None]
        return tf.where(known, self.logits(query, items), without)

    def score(
        self, queries: Mapping[str, np.ndarray], items: np.ndarray | None = None, batch: int = 1024
    ) -> np.ndarray:
        """Scores of encoded queries, in chunks.

        Args:
            queries: what `FeatureSpec.encode_queries` gives, n rows.
            items: int32 [n, C] item rows, or None for the whole catalogue.
            batch: rows a chunk; memory grows with it.

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
        """What the model makes of single events: float32 [n] by target.

        Args:
            queries: what `FeatureSpec.encode_queries` gives, n rows.
            items: int32 [n], an item row each.
            batch: rows a chunk; memory grows with it.
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
        """Functions of encoded tensors, from which the exporter builds the signatures."""
        functions: dict[str, Callable[..., Any]] = {"score": self.logits_or_prior}
        if self.has_embeddings:
            functions["embed_query"] = self.embed_query
            functions["embed_item"] = self.embed_item
        if self.targets:
            functions["predictions"] = self.predictions
        return functions

    def save(self, folder: Path | str, overwrite: bool = False) -> None:
        """Writes config, FeatureSpec and arrays into a folder, visible only when whole."""
        with atomic_folder(Path(folder), overwrite=overwrite) as new:
            self.write(new)

    def write(self, folder: Path) -> None:
        """Writes what `save` does into an empty folder."""
        record = {
            "format": _FORMAT,
            "family": self.family,
            "config": dataclasses.asdict(self.config),
        }
        (folder / "model.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.spec.save(folder / "feature_spec")
        np.savez(folder / "weights.npz", **self.state())  # type: ignore[arg-type]
        if self.items is not None:
            pq.write_table(self.items, folder / "items.parquet")

    @classmethod
    def from_folder(cls, folder: Path, record: Mapping[str, Any]) -> Self:
        """Reads a model of this family; `load_model` finds out which family it is."""
        spec = FeatureSpec.load(folder / "feature_spec")
        model = cls(cls.config_type(**config_fields(record["config"])), spec)  # type: ignore[call-arg]
        if (folder / "items.parquet").exists():
            model.items = pq.read_table(folder / "items.parquet")
        with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
            broken = [name for name in arrays.files if not np.isfinite(arrays[name]).all()]
            if broken:
                raise ValueError(f"weights.npz has values that are no numbers in {broken}")
            model.restore(arrays)
        return model


def event_counts(
    data: Interactions | StreamedInteractions, key: str, vocabulary: Vocabulary
) -> np.ndarray:
    """How many events each row of the vocabulary has, int64 [rows]; row 0 counts the unknown."""
    counts = np.zeros(len(vocabulary), np.int64)
    for part in data.parts():
        counts += np.bincount(vocabulary.encode(part.events[key]), minlength=len(vocabulary))
    return counts


def config_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields from JSON: lists become the tuples that they were."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}


def read_config(kind: type, record: Mapping[str, Any]) -> Any:
    """A config from some of its fields, as JSON or YAML have them; the others have their defaults.

    Raises:
        ValueError: for a field or a value that makes no sense, by name.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(record) - set(known))
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}; it has {', '.join(known)}.")
    try:
        return kind(**config_fields(record))
    except TypeError as error:  # a text where a number belongs
        raise ValueError(f"{kind.__name__} can't be made of {dict(record)}: {error}.") from error


def read_record(folder: Path) -> dict[str, Any]:
    """The `model.json` of a saved model.

    Raises:
        FileNotFoundError: if the folder holds no saved model.
        ValueError: if it is damaged, or another format wrote it.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved model (no model.json). Train one first.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Save the model again.") from error
    if not isinstance(record, dict) or {"format", "family", "config"} - set(record):
        raise ValueError(f"{path} is damaged: it lacks a part. Save the model again.")
    if record["format"] != _FORMAT:
        raise ValueError(
            f"{path} has format {record['format']!r}, but this version reads {_FORMAT}. "
            "Train the model again."
        )
    return record
