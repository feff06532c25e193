"""The signatures of one model, as TensorFlow functions of raw strings and numbers."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrec_meta.errors import ParameterError
from tfrec_meta.export import signatures as names
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.inputs import (
    Input,
    Tensors,
    feature_input,
    padded_input,
    parse_examples,
    signature_function,
)
from tfrec_meta.export.needed_spec import needed_spec
from tfrec_meta.features.graph import GraphEncoder
from tfrec_meta.features.kinds import Category, Feature
from tfrec_meta.indexes import exact as index
from tfrec_meta.models.base.contract import Recommender, UserIds
from tfrec_meta.reranking import diversity

_EXAMPLES = {names.EXAMPLES: Input(tf.string)}
_POOL = 4  # items that diversity considers, as a multiple of `max_k`


class SignatureFunctions:
    """Builds the signatures of a model.

    Args:
        model: a fitted model of any family.
        config: the options fixed at export time.
        vocabularies: an existing folder for the vocabulary files, which TensorFlow copies.

    Attributes:
        root: the tf.Module to save: the model's variables and the encoder.
        signatures: tf.function by signature name.
        inputs: the inputs of each signature by name.

    Raises:
        ValueError: if a filter is not a category of the items, or `diversity` is set for a family
            without embeddings.
    """

    def __init__(self, model: Recommender, config: ExportConfig, vocabularies: Path):
        self._config = config
        self._spec = model.spec
        self._model = model
        self._functions = model.serving_functions()
        self._encoder = GraphEncoder(
            needed_spec(model, user_ids=model.user_ids is not UserIds.UNUSED),
            vocabularies,
            hashed_users=model.user_ids is UserIds.FEATURES,
        )
        self._filters = {name: self._filter_feature(name) for name in config.filters}
        if config.diversity and not model.has_embeddings:
            raise ParameterError(
                f"`diversity`=True, but the family {model.family!r} has no embeddings to measure "
                "similarity with; export it without `diversity`.",
                "diversity",
            )
        item_features = model.spec.encode_items(model.items)
        self._item_features = {
            name: tf.constant(item_features[name][1:]) for name in config.filters
        }
        # The model itself is not saved: TensorFlow would trace and save its Keras side, too.
        self.root = tf.Module(name="servable")
        self.root.model_variables = list(model.variables)
        self.root.encoder = self._encoder
        bodies = {
            names.RECOMMEND: self._recommend,
            names.SERVING_DEFAULT: self._recommend_examples,
            names.RANK: self._rank,
            names.RANK_EXAMPLES: self._rank_examples,
        }
        self.inputs = {
            names.RECOMMEND: {**self._user_side(), **self._recommend_options()},
            names.SERVING_DEFAULT: _EXAMPLES,
            names.RANK: {**self._rank_side(), **self._user_options()},
            names.RANK_EXAMPLES: _EXAMPLES,
        }
        if model.has_embeddings:
            bodies |= {names.EMBED_QUERY: self._embed_query, names.EMBED_ITEM: self._embed_item}
            self.inputs[names.EMBED_QUERY] = self._user_side()
            self.inputs[names.EMBED_ITEM] = self._item_side()
        if names.ADAPT in self._functions:
            bodies[names.ADAPT] = self._adapt
            self.inputs[names.ADAPT] = self._support_side()
        self.signatures = {
            name: signature_function(body, self.inputs[name]) for name, body in bodies.items()
        }

    # Inputs.

    def _user_side(self) -> dict[str, Input]:
        return {names.USER_ID: Input(tf.string), **self._user_options()}

    def _rank_side(self) -> dict[str, Input]:
        return {
            names.USER_ID: Input(tf.string),
            names.ITEM_ID: Input(tf.string, self._config.candidates_width),
        }

    def _user_options(self) -> dict[str, Input]:
        inputs = {names.HISTORY: padded_input(self._config.history_width)}
        return inputs | {feature.name: feature_input(feature) for feature in self._spec.query}

    def _recommend_options(self) -> dict[str, Input]:
        inputs = {
            names.EXCLUDE: padded_input(self._config.exclude_width),
            names.K: Input(tf.int32, None, tf.constant([self._config.k], tf.int32)),
        }
        for name in self._filters:
            inputs[names.FILTER_PREFIX + name] = padded_input(self._config.filter_width)
        if self._config.diversity:
            inputs[names.DIVERSITY] = Input(tf.float32, None, tf.constant([0.0]))
        return inputs

    def _item_side(self) -> dict[str, Input]:
        inputs = {names.ITEM_ID: Input(tf.string)}
        return inputs | {feature.name: feature_input(feature) for feature in self._spec.item}

    def _support_side(self) -> dict[str, Input]:
        width, options = self._config.support_width, self._recommend_options()
        label = tf.fill([1, width], self._model.default_label)
        inputs = {
            names.ITEM_ID: Input(tf.string, width),
            names.LABEL: Input(tf.float32, width, label),
            names.EXCLUDE: options[names.EXCLUDE],
            names.K: options[names.K],
        }
        return inputs | {
            feature.name: feature_input(feature) for feature in self._adapting_features()
        }

    def _adapting_features(self) -> tuple[Feature, ...]:
        return self._spec.user if self._model.adapts_by_features else ()

    def _filter_feature(self, name: str) -> Category:
        for feature in self._spec.item:
            if feature.name == name and isinstance(feature, Category):
                return feature
        known = [f.name for f in self._spec.item if isinstance(f, Category)]
        raise ParameterError(
            f"`filters` has {name!r}; use categories of the items, here {known}.", "filters"
        )

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
            rows, scores = self._diverse_top_k(scores, k, raw[names.DIVERSITY])
        else:
            rows, scores = index.top_k(scores, k, max_k)
        return {names.ITEM_ID: self._encoder.item_tokens(rows), names.SCORE: scores}

    def _diverse_top_k(
        self, scores: tf.Tensor, k: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what `index.top_k` returns, re-ranked by maximal marginal relevance."""
        max_k = self._config.max_k
        width = index.answer_width(scores, k, max_k)
        values, columns = index.best_columns(scores, _POOL * max_k)
        vectors = tf.gather(self._model.item_embeddings(), columns)
        order = diversity.marginal_relevance_order(values, vectors, weight, width, max_k)
        rows = tf.gather(columns, order, batch_dims=1) + 1
        return index.blank_past_k(rows, tf.gather(values, order, batch_dims=1), k)

    def _rank(self, raw: Tensors) -> Tensors:
        items = raw[names.ITEM_ID]
        shape = [None, self._config.candidates_width]
        found = self._scores(self._encoder.encode_query(raw), self._encoder.item_rows(items))
        return {
            name: tf.ensure_shape(tf.where(items == names.PADDING, float("-inf"), scores), shape)
            for name, scores in found.items()
        }

    def _scores(self, query: Tensors, items: tf.Tensor) -> Tensors:
        """Returns the scores of item rows int32 [B, C], and the predictions for each target."""
        found = {names.SCORE: self._functions["score"](query, items)}
        if "predictions" in self._functions:
            for target, value in self._functions["predictions"](query, items).items():
                found[names.SCORE_PREFIX + target] = value
        return found

    def _recommend_examples(self, raw: Tensors) -> Tensors:
        parsed = parse_examples(raw[names.EXAMPLES], self._user_side())
        rows = tf.shape(parsed[names.USER_ID])[0]
        for name, spec in self._recommend_options().items():
            parsed[name] = tf.repeat(spec.default, rows, axis=0)
        return self._recommend(parsed)

    def _rank_examples(self, raw: Tensors) -> Tensors:
        inputs = {**self._user_side(), names.ITEM_ID: Input(tf.string)}
        parsed = parse_examples(raw[names.EXAMPLES], inputs)
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
        scores, used = self._functions["adapt"](support, raw[names.LABEL], features)
        hidden = [support, self._encoder.item_rows(raw[names.EXCLUDE])]
        scores = index.mask_rows(scores, tf.concat(hidden, axis=1))
        rows, scores = index.top_k(scores, raw[names.K], self._config.max_k)
        return {
            names.ITEM_ID: self._encoder.item_tokens(rows),
            names.SCORE: scores,
            names.SUPPORT_USED: used,
        }
