"""Exports a fitted model as a SavedModel that stock TF Serving loads, on CPU or GPU."""

from __future__ import annotations

import dataclasses
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from tfrec_meta.export import signatures as names
from tfrec_meta.features import Category, FeatureSpec
from tfrec_meta.features.graph import (
    GraphEncoder,
    raw_default,
    raw_dtype,
    raw_width,
)
from tfrec_meta.features.kinds import Feature
from tfrec_meta.indexes import exact as index
from tfrec_meta.io.files import atomic_folder
from tfrec_meta.models.base.contract import Recommender

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What is fixed when a model leaves the house.

    Args:
        k: answers of `serving_default`, and of `recommend` where the request has no `k`.
        max_k: the most answers that a request can ask for.
        history_width: H, items of the history that a request carries; the model reads the latest
            `history_length` of its FeatureSpec, and all are left out of the answer.
        exclude_width: E, further items that a request can leave out of the answer.
        candidates_width: C, items of one row of `rank`.
        support_width: S, items of one support set of `adapt`.
        filters: item categories by which a request may filter (`filter_<name>`).
        filter_width: F, values of one filter.
        diversity: whether requests may ask for diversity; only for families with embeddings.
        recommend_history: whether items of the history may be recommended again.
    """

    k: int = 10
    max_k: int = 100
    history_width: int = 1000
    exclude_width: int = 50
    candidates_width: int = 100
    support_width: int = 50
    filters: tuple[str, ...] = ()
    filter_width: int = 8
    diversity: bool = False
    recommend_history: bool = False

    def __post_init__(self) -> None:
        widths = ("history_width", "exclude_width", "candidates_width", "support_width")
        for name in ("k", "max_k", *widths, "filter_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")
        if self.k > self.max_k:
            raise ValueError(f"`k`={self.k}, but `max_k`={self.max_k}. Raise `max_k`.")


def export_model(
    model: Recommender,
    base: Path | str,
    config: ExportConfig = ExportConfig(),
    version: int | None = None,
    card: str = "",
) -> Path:
    """Writes `<base>/<version>/`, visible only when whole.

    Args:
        model: a fitted model of any family.
        base: the folder of one served model; its name is the model's name.
        config: what requests may ask for.
        version: a positive integer; by default one above the highest version there.
        card: Markdown for `assets.extra/model_card.md`.

    Returns:
        The new version folder.

    Raises:
        FileExistsError: if that version is there.
        ValueError: if a filter is no category of the items, or the family can't do `diversity`.
    """
    base = Path(base)
    version = next_version(base) if version is None else version
    if version < 1:
        raise ValueError(f"`version`={version}; use 1 or more.")
    folder = base / str(version)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; exported versions are never changed.")
    write_model(model, folder, base.name, config, card)
    return folder


def write_model(
    model: Recommender,
    folder: Path | str,
    name: str,
    config: ExportConfig = ExportConfig(),
    card: str = "",
) -> None:
    """Writes the SavedModel into exactly this folder, visible only when whole.

    Args:
        model: a fitted model of any family.
        folder: the new folder.
        name: of the served model.
        config: what requests may ask for.
        card: Markdown for `assets.extra/model_card.md`.

    Raises:
        FileExistsError: if `folder` is there.
        ValueError: if a filter is no category of the items, or the family can't do `diversity`.
    """
    with atomic_folder(folder) as new, tempfile.TemporaryDirectory() as vocabularies:
        servable = _Servable(model, config, Path(vocabularies))
        tf.saved_model.save(servable.root, str(new), signatures=servable.signatures)
        extra = new / names.EXTRA_ASSETS
        extra.mkdir()
        model.spec.save(extra / names.FEATURE_SPEC)
        pq.write_table(catalogue(model.spec, model.items), extra / names.CATALOGUE)
        (extra / names.MODEL_CARD).write_text(
            card or default_card(name, model, config), encoding="utf-8"
        )
        _write_warm_up(extra / names.WARM_UP_REQUESTS, name, servable)


def next_version(base: Path) -> int:
    """One above the highest version of `base`, or 1."""
    if not base.is_dir():
        return 1
    versions = [names.version_of(path.name) or 0 for path in base.iterdir() if path.is_dir()]
    return max(versions, default=0) + 1


def catalogue(spec: FeatureSpec, items: pa.Table | None) -> pa.Table:
    """item_id, and the attributes of each item, in the order of the scores."""
    tokens = pa.table({"item_id": spec.items.tokens})
    if items is None:
        return tokens
    rows = np.full(len(tokens), -1)
    found = spec.items.encode(items["item_id"])
    rows[found[found > 0] - 1] = np.flatnonzero(found > 0)
    taken = items.take(pa.array(rows, mask=rows < 0))
    return taken.set_column(taken.column_names.index("item_id"), "item_id", tokens["item_id"])


def default_card(name: str, model: Recommender, config: ExportConfig) -> str:
    """A model card with what the model itself knows."""
    return (
        f"# {name}\n\n- Family: {model.family}\n- Catalogue: {model.spec.catalogue_size} items\n"
        f"- Users known by id: {len(model.spec.users) - 1}\n"
        f"- Trained on {int(model.item_counts.numpy().sum())} interactions\n\n"
        f"```json\n{json.dumps(dataclasses.asdict(model.config), indent=1)}\n```\n\n"
        f"Export:\n\n```json\n{json.dumps(dataclasses.asdict(config), indent=1)}\n```\n"
    )


@dataclasses.dataclass(frozen=True)
class _Input:
    """One input of a signature; an optional one has a row to stand in for what is left out."""

    dtype: tf.DType
    width: int | None = None
    default: tf.Tensor | None = None


class _Servable:
    """The signatures of one model, as tf.functions over raw strings and numbers."""

    def __init__(self, model: Recommender, config: ExportConfig, vocabularies: Path):
        self._config = config
        self._spec = model.spec
        self._model = model
        self._functions = model.serving_functions()
        self._encoder = GraphEncoder(model.spec, vocabularies)
        self._filters = {name: self._filter_feature(name) for name in config.filters}
        if config.diversity and not model.has_embeddings:
            raise ValueError(f"Family {model.family!r} has no embeddings to diversify by.")
        item_features = model.spec.encode_items(model.items)
        self._item_features = {
            name: tf.constant(item_features[name][1:]) for name in config.filters
        }
        # Not the model itself, whose Keras side would be traced and saved, too.
        self.root = tf.Module(name="servable")
        self.root.model_variables = list(model.variables)
        self.root.encoder = self._encoder
        self.signatures = {
            names.RECOMMEND: self._function(
                self._recommend, {**self._user_side(), **self._recommend_options()}
            ),
            names.SERVING_DEFAULT: self._function(self._recommend_examples, _EXAMPLES),
            names.RANK: self._function(self._rank, {**self._rank_side(), **self._user_options()}),
            names.RANK_EXAMPLES: self._function(self._rank_examples, _EXAMPLES),
        }
        if model.has_embeddings:
            self.signatures[names.EMBED_QUERY] = self._function(
                self._embed_query, self._user_side()
            )
            self.signatures[names.EMBED_ITEM] = self._function(self._embed_item, self._item_side())
        if names.ADAPT in self._functions:
            self.signatures[names.ADAPT] = self._function(self._adapt, self._support_side())

    # Inputs.

    def _user_side(self) -> dict[str, _Input]:
        return {names.USER_ID: _Input(tf.string), **self._user_options()}

    def _rank_side(self) -> dict[str, _Input]:
        return {
            names.USER_ID: _Input(tf.string),
            names.ITEM_ID: _Input(tf.string, self._config.candidates_width),
        }

    def _user_options(self) -> dict[str, _Input]:
        inputs = {names.HISTORY: _blank(self._config.history_width)}
        for feature in self._spec.query:
            inputs[feature.name] = _Input(
                raw_dtype(feature), raw_width(feature), raw_default(feature)
            )
        return inputs

    def _recommend_options(self) -> dict[str, _Input]:
        inputs = {
            names.EXCLUDE: _blank(self._config.exclude_width),
            names.K: _Input(tf.int32, None, tf.constant([self._config.k], tf.int32)),
        }
        for name in self._filters:
            inputs[names.FILTER_PREFIX + name] = _blank(self._config.filter_width)
        if self._config.diversity:
            inputs[names.DIVERSITY] = _Input(tf.float32, None, tf.constant([0.0]))
        return inputs

    def _item_side(self) -> dict[str, _Input]:
        inputs = {names.ITEM_ID: _Input(tf.string)}
        for feature in self._spec.item:
            inputs[feature.name] = _Input(
                raw_dtype(feature), raw_width(feature), raw_default(feature)
            )
        return inputs

    def _support_side(self) -> dict[str, _Input]:
        width, options = self._config.support_width, self._recommend_options()
        label = tf.fill([1, width], self._model.default_label)
        inputs = {
            names.ITEM_ID: _Input(tf.string, width),
            names.LABEL: _Input(tf.float32, width, label),
            names.EXCLUDE: options[names.EXCLUDE],
            names.K: options[names.K],
        }
        for feature in self._adapting_features():
            inputs[feature.name] = _Input(
                raw_dtype(feature), raw_width(feature), raw_default(feature)
            )
        return inputs

    def _adapting_features(self) -> tuple[Feature, ...]:
        return self._spec.user if self._model.adapts_by_features else ()

    def _filter_feature(self, name: str) -> Category:
        for feature in self._spec.item:
            if feature.name == name and isinstance(feature, Category):
                return feature
        known = [f.name for f in self._spec.item if isinstance(f, Category)]
        raise ValueError(f"`filters` names {name!r}; the categories of the items are {known}.")

    # Signatures.

    def _recommend(self, raw: Tensors) -> Tensors:
        query = self._encoder.encode_query(raw)
        scores = self._functions["score"](query)
        hidden = [self._encoder.item_rows(raw[names.EXCLUDE])]
        if not self._config.recommend_history:
            hidden.append(self._encoder.item_rows(raw[names.HISTORY]))
        scores = index.mask_rows(scores, tf.concat(hidden, axis=1))
        for name, feature in self._filters.items():
            tokens = raw[names.FILTER_PREFIX + name]
            scores = index.mask_other_attributes(
                scores,
                self._encoder.feature_rows(feature, tokens),
                tf.reduce_any(tokens != names.PADDING, axis=1),
                self._item_features[name],
                len(self._spec.vocabularies[self._spec.key(feature, "item")]),
            )
        k, max_k = raw[names.K], self._config.max_k
        if self._config.diversity:
            rows, scores = index.diverse_top_k(
                scores,
                k,
                max_k,
                self._model.item_embeddings(),
                raw[names.DIVERSITY],
                pool=4 * max_k,
            )
        else:
            rows, scores = index.top_k(scores, k, max_k)
        return {names.ITEM_ID: self._encoder.item_tokens(rows), names.SCORE: scores}

    def _rank(self, raw: Tensors) -> Tensors:
        items = raw[names.ITEM_ID]
        shape = [None, self._config.candidates_width]
        found = self._scores(self._encoder.encode_query(raw), self._encoder.item_rows(items))
        return {
            name: tf.ensure_shape(tf.where(items == names.PADDING, float("-inf"), scores), shape)
            for name, scores in found.items()
        }

    def _scores(self, query: Tensors, items: tf.Tensor) -> Tensors:
        """The score of item rows int32 [B, C], and what the model predicts of them by target."""
        found = {names.SCORE: self._functions["score"](query, items)}
        if "predictions" in self._functions:
            for target, value in self._functions["predictions"](query, items).items():
                found[names.SCORE_PREFIX + target] = value
        return found

    def _recommend_examples(self, raw: Tensors) -> Tensors:
        parsed = _parse(raw[names.EXAMPLES], self._user_side())
        rows = tf.shape(parsed[names.USER_ID])[0]
        for name, spec in self._recommend_options().items():
            parsed[name] = tf.repeat(spec.default, rows, axis=0)
        return self._recommend(parsed)

    def _rank_examples(self, raw: Tensors) -> Tensors:
        inputs = {**self._user_side(), names.ITEM_ID: _Input(tf.string)}
        parsed = _parse(raw[names.EXAMPLES], inputs)
        items = self._encoder.item_rows(parsed[names.ITEM_ID])[:, None]
        found = self._scores(self._encoder.encode_query(parsed), items)
        return {name: scores[:, 0] for name, scores in found.items()}

    def _embed_query(self, raw: Tensors) -> Tensors:
        embedding = self._functions["embed_query"](self._encoder.encode_query(raw))
        return {names.EMBEDDING: embedding}

    def _embed_item(self, raw: Tensors) -> Tensors:
        return {names.EMBEDDING: self._functions["embed_item"](self._encoder.encode_item(raw))}

    def _adapt(self, raw: Tensors) -> Tensors:
        support = self._encoder.item_rows(raw[names.ITEM_ID])
        features = {
            feature.name: self._encoder.encode(feature, raw[feature.name], "query")
            for feature in self._adapting_features()
        }
        # What adapts by support alone takes no features.
        further = [features] if self._model.adapts_by_features else []
        scores, used = self._functions["adapt"](support, raw[names.LABEL], *further)
        hidden = [support, self._encoder.item_rows(raw[names.EXCLUDE])]
        scores = index.mask_rows(scores, tf.concat(hidden, axis=1))
        rows, scores = index.top_k(scores, raw[names.K], self._config.max_k)
        return {
            names.ITEM_ID: self._encoder.item_tokens(rows),
            names.SCORE: scores,
            names.SUPPORT_USED: used,
        }

    def _function(
        self, body: Callable[[Tensors], Tensors], inputs: Mapping[str, _Input]
    ) -> Callable[..., Tensors]:
        """A tf.function whose arguments are the inputs, checked and brought to one batch size."""

        def signature(*args: tf.Tensor) -> Tensors:
            return body(_checked(dict(zip(inputs, args, strict=True)), inputs))

        signature.__name__ = body.__name__.lstrip("_")
        # tf.function reads names and defaults from here; they become `SignatureDef.defaults`.
        signature.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=inspect.Parameter.empty if spec.default is None else spec.default,
                )
                for name, spec in inputs.items()
            ]
        )
        # Of unknown rank: with the rank in the TensorSpec, TensorFlow folds the checks below away,
        # and the caller gets an error that doesn't name the input.
        specs = [tf.TensorSpec(None, spec.dtype, name=name) for name, spec in inputs.items()]
        return tf.function(signature, input_signature=specs)


_EXAMPLES = {names.EXAMPLES: _Input(tf.string)}


def _blank(width: int) -> _Input:
    return _Input(tf.string, width, tf.constant("", tf.string, shape=[1, width]))


def _checked(raw: Tensors, inputs: Mapping[str, _Input]) -> Tensors:
    """Checks rank, width and rows of each input, and repeats a single row of an optional one.

    Values are not checked: one bad row would fail the whole batch that it was joined into.
    """
    checked: Tensors = {}
    for name, spec in inputs.items():
        tensor = raw[name]
        shape = tf.shape(tensor)
        rank = 1 if spec.width is None else 2
        wanted = "[B]" if spec.width is None else f"[B, {spec.width}]"
        fits = tf.equal(tf.size(shape), rank)
        if spec.width is not None:
            last = tf.reduce_sum(shape[-1:])  # a scalar has none
            fits = tf.logical_and(fits, tf.equal(last, spec.width))
        said = [f"`{name}` has the wrong shape; expected {wanted}, got", shape]
        with tf.control_dependencies([tf.debugging.Assert(fits, said)]):
            # Not `identity` and `ensure_shape`: optimised, that fails before the assertion speaks.
            checked[name] = tf.reshape(tensor, [-1] if rank == 1 else [-1, spec.width])
    rows = tf.shape(checked[next(iter(inputs))])[0]
    for name, spec in inputs.items():
        own = tf.shape(checked[name])[0]
        alone = tf.logical_and(spec.default is not None, tf.equal(own, 1))
        said = [f"`{name}` must have as many rows as the other inputs, or one; it has", own]
        agrees = tf.debugging.Assert(tf.logical_or(alone, tf.equal(own, rows)), said)
        with tf.control_dependencies([agrees]):
            times = tf.where(alone, rows, 1)
        multiples = tf.stack([times] if spec.width is None else [times, 1])
        checked[name] = tf.tile(checked[name], multiples)
    return checked


def _parse(examples: tf.Tensor, inputs: Mapping[str, _Input]) -> Tensors:
    """Inputs from serialised tf.Examples; missing ones get their default.

    A history of any length is cut to its latest items; other lists must fit their width.
    """
    features: dict[str, Any] = {}
    for name, spec in inputs.items():
        blank = "" if spec.dtype == tf.string else float("nan")
        if spec.width is None:
            features[name] = tf.io.FixedLenFeature([], spec.dtype, blank)
        elif spec.dtype == tf.string:
            features[name] = tf.io.FixedLenSequenceFeature(
                [], spec.dtype, allow_missing=True, default_value=""
            )
        else:
            features[name] = tf.io.FixedLenFeature([spec.width], spec.dtype, [blank] * spec.width)
    parsed = tf.io.parse_example(examples, features)
    for name, spec in inputs.items():
        if spec.width is not None and spec.dtype == tf.string:
            parsed[name] = _fit_width(parsed[name], spec.width, latest=name == names.HISTORY)
    return parsed


def _fit_width(tokens: tf.Tensor, width: int, latest: bool) -> tf.Tensor:
    """Pads string [B, w] with "" to `width`, or cuts each row to its first or latest tokens.

    The latest end with the last token that is not blank: blanks may also stand between the others.
    """
    padded = tf.pad(tokens, [[0, 0], [0, width]], constant_values="")
    if latest:
        places = tf.range(1, tf.shape(tokens)[1] + 1)
        # The 0 is for a batch in which nobody has any.
        ends = tf.pad(tf.where(tokens != "", places, 0), [[0, 0], [1, 0]])
        first = tf.maximum(tf.reduce_max(ends, axis=1) - width, 0)[:, None]
        return tf.gather(padded, first + tf.range(width)[None, :], batch_dims=1)
    return tf.ensure_shape(padded[:, :width], [None, width])


def _write_warm_up(path: Path, model_name: str, servable: _Servable) -> None:
    """Requests that TF Serving replays before it serves: no user waits for first-call work."""
    spec, config = servable._spec, servable._config
    tokens = spec.items.tokens.slice(0, 3).to_pylist()
    history = (tokens + [""] * config.history_width)[: config.history_width]
    known = spec.users.tokens.slice(0, 1).to_pylist() or [""]
    support = (tokens + [""] * config.support_width)[: config.support_width]
    row = (tokens + [""] * config.candidates_width)[: config.candidates_width]
    requests = []
    for user, earlier in ((known[0], history), ("", [""] * config.history_width)):
        own = {names.USER_ID: [user], names.HISTORY: [earlier]}
        recommended = {**servable._user_side(), **servable._recommend_options()}
        requests.append((names.RECOMMEND, recommended, own))
        ranked = {**servable._rank_side(), **servable._user_options()}
        requests.append((names.RANK, ranked, {**own, names.ITEM_ID: [row]}))
    if names.ADAPT in servable.signatures:
        requests.append((names.ADAPT, servable._support_side(), {names.ITEM_ID: [support]}))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, inputs, own in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=model_name, signature_name=name)
            )
            for key, given in inputs.items():
                value: Any = tf.constant(own[key]) if key in own else given.default
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
