"""A cross-encoder: a BERT that reads the history and one candidate together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import PositiveInt, check_fields
from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.item_text import item_texts
from tfrec_meta.content.parameter_efficient import tuned_weights
from tfrec_meta.data import Interactions
from tfrec_meta.distillation.fine_tuning import (
    FineTuningConfig,
    batches_over,
    checksum_of,
    fit,
    seed_dropout,
    steps_over,
)
from tfrec_meta.distillation.pairs import Pairs
from tfrec_meta.errors import ParameterError
from tfrec_meta.features import FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Query, Teacher
from tfrec_meta.models.families.two_stage import rank_proposed
from tfrec_meta.models.layers.item_rows import multi_hot

_DRAWS = 20  # attempts to draw a negative that the user does not have


@dataclasses.dataclass(frozen=True)
class CrossEncoderConfig:
    """Input sizes of a cross-encoder, and its training recipe.

    Args:
        fine_tuning: the recipe; its `temperature` is not used.
        history_items: number of history items that are read: the latest, or in training a random
            sample.
        item_tokens: tokens that are read of an item's text; the rest is cut off.
        negatives: negatives per training event, drawn uniformly from the items that have events but
            not of this user.
        candidates: number of the retriever's best items that are ranked, per query.
    """

    fine_tuning: FineTuningConfig = FineTuningConfig()
    history_items: PositiveInt = 8
    item_tokens: PositiveInt = 16
    negatives: PositiveInt = 7
    candidates: PositiveInt = 50

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def tokens(self) -> int:
        """Number of tokens of a history, a candidate and the special tokens."""
        return (self.history_items + 1) * self.item_tokens + 3


class CrossEncoder(Teacher):
    """Re-ranks a retriever's best items by a BERT that reads each together with the history.

    It is a `Teacher`, but a slow one: each query needs `candidates` forward passes. All other
    items, and those of the history, are ranked below in the retriever's order. Users without
    history get the retriever's order.

    Args:
        encoder: provides checkpoint and tokenizer.
        retriever: a fitted model or another teacher.
        texts: texts of the catalogue, in its order.
        config: input sizes and recipe.

    Raises:
        ValueError: if the checkpoint reads fewer tokens, or has adapters or a prefix, or the number
            of texts is not that of the items.

    Source: Nogueira and Cho, "Passage Re-ranking with BERT", 2019.
    """

    def __init__(
        self,
        encoder: BertEncoder,
        retriever: Teacher,
        texts: Sequence[str],
        config: CrossEncoderConfig = CrossEncoderConfig(),
    ):
        encoder.checkpoint.check_plain()
        self.spec: FeatureSpec = retriever.spec
        self.retriever, self.config = retriever, config
        if len(texts) != self.spec.catalogue_size:
            raise ParameterError(
                f"`texts` has {len(texts)} texts; use {self.spec.catalogue_size}, one per item.",
                "texts",
            )
        longest = int(encoder.checkpoint.config.get("max_position_embeddings", 512))
        if config.tokens > longest:
            raise ParameterError(
                f"`history_items`={config.history_items} and `item_tokens`={config.item_tokens} "
                f"make {config.tokens} tokens, but {encoder.checkpoint.name} reads {longest}. "
                "Lower one of the two.",
                "history_items",
                "item_tokens",
            )
        tokenizer = encoder.tokenizer
        self._special_tokens = [tokenizer.cls_token_id, tokenizer.sep_token_id]
        tokens = tokenizer(
            ["", *texts],
            add_special_tokens=False,
            padding="max_length",
            truncation=True,
            max_length=config.item_tokens,
            return_tensors="np",
        )
        ids, mask = (tokens[k].astype(np.int32) for k in ("input_ids", "attention_mask"))
        ids[0], mask[0] = 0, 0  # the unknown item has no text
        self._ids, self._mask = tf.constant(ids), tf.constant(mask)
        recipe = config.fine_tuning
        self._build(encoder.checkpoint.model(recipe.mixed_precision, recipe.dropout))

    def _build(self, model: Any) -> None:
        recipe = self.config.fine_tuning
        self.model = model
        self._has_types = model.config.model_type == "bert"
        self.added = tuned_weights(model, recipe.method, recipe.size, recipe.seed)
        self.head = tf_keras.layers.Dense(
            1, kernel_initializer=tf_keras.initializers.GlorotUniform(recipe.seed)
        )
        self.head.build([None, model.config.hidden_size])

    @property
    def trained(self) -> list[tf.Variable]:
        """The trained weights."""
        return [*self.added, *self.head.trainable_weights]

    def pair_scores(
        self, history: tf.Tensor, items: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Scores pairs of history and candidate.

        Args:
            history: int32 [n, h], item rows, padded with 0.
            items: int32 [n], item rows.
            training: whether dropout is applied.

        Returns:
            float32 [n].
        """
        ids, mask, types = self._pairs(history, items)
        kinds = {"token_type_ids": types} if self._has_types else {}
        hidden = self.model(input_ids=ids, attention_mask=mask, training=training, **kinds)
        first = tf.cast(hidden.last_hidden_state[:, 0], tf.float32)
        return self.head(first)[:, 0]

    def _pairs(
        self, history: tf.Tensor, items: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Builds the input [CLS] history [SEP] candidate [SEP].

        Returns:
            Ids, mask and token types, int32 [n, longest input], with the padding at the end.
        """
        n, (cls, sep) = tf.shape(items)[0], self._special_tokens
        width = self.config.history_items * self.config.item_tokens
        latest = self._latest(history)
        one = tf.ones([n, 1], tf.int32)
        ids = [
            cls * one,
            tf.reshape(tf.gather(self._ids, latest), [n, width]),
            sep * one,
            tf.gather(self._ids, items),
            sep * one,
        ]
        mask = [
            one,
            tf.reshape(tf.gather(self._mask, latest), [n, width]),
            one,
            tf.gather(self._mask, items),
            one,
        ]
        types = [tf.fill(tf.shape(part), int(index > 2)) for index, part in enumerate(ids)]
        present = tf.concat(mask, axis=1)
        # No padding between tokens, because the BERT was trained without.
        order = tf.argsort(1 - present, axis=1, stable=True)
        found = (tf.concat(ids, axis=1) * present, present, tf.concat(types, axis=1) * present)
        longest = tf.reduce_max(tf.reduce_sum(present, axis=1))
        ids, mask, types = (tf.gather(part, order[:, :longest], batch_dims=1) for part in found)
        return ids, mask, types

    def _latest(self, history: tf.Tensor) -> tf.Tensor:
        """Returns the last items of right-padded histories, int32 [n, history_items]."""
        size = self.config.history_items
        padded = tf.pad(history, [[0, 0], [size, 0]])
        # Move the items to the end, in their order, and take the last ones.
        order = tf.argsort(tf.cast(padded > 0, tf.int32), axis=1, stable=True)
        return tf.gather(padded, order, batch_dims=1)[:, -size:]

    # The interface of a Teacher.

    def logits_or_prior(self, query: Query) -> tf.Tensor:
        """Returns float32 [B, catalogue]."""
        retrieved = self.retriever.logits_or_prior(query)
        history = query["history"]
        own = multi_hot(history, len(self.spec.items))[:, 1:] > 0
        count = min(self.config.candidates, self.spec.catalogue_size)
        values, columns = tf.math.top_k(tf.where(own, float("-inf"), retrieved), k=count)

        def score_query(query: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            one, items = query
            return self.pair_scores(tf.repeat(one[None], count, axis=0), items)

        ranked = tf.map_fn(  # one query at a time, to bound memory
            score_query,
            (history, columns + 1),
            fn_output_signature=tf.TensorSpec([count], tf.float32),
        )
        scores = rank_proposed(retrieved, columns, ranked, values > float("-inf"))
        return tf.where(tf.reduce_any(history > 0, axis=1)[:, None], scores, retrieved)

    def state(self) -> dict[str, np.ndarray]:
        """Returns all weights, and the state of the retriever."""
        own = [v for v in self.model.weights if "pooler" not in v.name] + self.head.weights
        found = {f"cross_encoder/{i}": variable.numpy() for i, variable in enumerate(own)}
        found |= {f"retriever/{name}": v for name, v in self.retriever.state().items()}
        return found


def fine_tuned_cross_encoder(
    encoder: BertEncoder,
    data: Interactions,
    retriever: Teacher,
    columns: Sequence[str],
    config: CrossEncoderConfig = CrossEncoderConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
) -> CrossEncoder:
    """Fine-tunes a BERT to decide whether a history and an item belong to the same user.

    The training task is to find the item of each event among `negatives` others, given a sample of
    the user's other items. Items without events are not used as negatives.

    Args:
        encoder: the initial encoder, which is not changed.
        data: training events, with an items table.
        retriever: a fitted teacher whose best items are re-ranked.
        columns: columns of the items table that make up a text.
        config: input sizes and recipe; a batch has `batch_size` events.
        folder: for checkpoints; the same call resumes an interrupted training.
        progress: whether to show a progress bar.

    Raises:
        ValueError: as `CrossEncoder`; if there are no texts, no user has two items of the
            catalogue, or `folder` contains another run.
    """
    texts = item_texts(retriever.spec, data.items, columns)
    found = CrossEncoder(encoder, retriever, texts, config)
    events = Events(Pairs.of(data, retriever.spec), config)
    step = tf.Variable(0, dtype=tf.int64)
    seed_dropout(found.model, config.fine_tuning.seed, step)

    def loss(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        items, histories = batch["items"], batch["history"]
        per_event = tf.shape(items)[1]
        scores = found.pair_scores(
            tf.repeat(histories, per_event, axis=0), tf.reshape(items, [-1]), training=True
        )
        logits = tf.reshape(scores, tf.shape(items))
        positive = tf.zeros([tf.shape(items)[0]], tf.int32)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(positive, logits)
        return tf.reduce_mean(each)

    trained = found.trained
    recipe = config.fine_tuning
    fit(
        trained,
        loss,
        events.batches,
        events.steps,
        recipe,
        step,
        folder,
        {
            **{f"pair_{k}": v for k, v in dataclasses.asdict(config).items() if k != "fine_tuning"},
            "checkpoint": encoder.checkpoint.identity,
            "texts": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
            "events": checksum_of([events.pairs.users, events.pairs.rows]),
        },
        progress,
    )
    if recipe.mixed_precision:  # only for training
        learned = [weight.numpy() for weight in trained]
        found._build(encoder.checkpoint.model())
        for weight, value in zip(found.trained, learned, strict=True):
            weight.assign(value)
    return found


@dataclasses.dataclass(frozen=True)
class Events:
    """Builds training batches from pairs of users and items.

    Attributes:
        pairs: pairs of users and items.
        config: input sizes and recipe.
    """

    pairs: Pairs
    config: CrossEncoderConfig

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return steps_over(len(self.pairs.rows), self.config.fine_tuning)

    def batches(self, step: int) -> list[dict[str, np.ndarray]]:
        """Returns the batches of a step; the result depends on the step alone.

        Each has `items` int32 [B, 1 + negatives], the positive first, and `history` int32 [B,
        history_items], a sample of the user's other items.
        """
        recipe = self.config.fine_tuning
        draw = np.random.default_rng([recipe.seed, recipe.epochs, step])
        parts = batches_over(step, len(self.pairs.rows), recipe)
        return [self._batch(part, draw) for part in parts]

    def _batch(self, events: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        users, positives = self.pairs.users[events], self.pairs.rows[events]
        histories = np.zeros((len(events), self.config.history_items), np.int32)
        for row, (user, item) in enumerate(zip(users, positives, strict=True)):
            own = self.pairs.has_item[user].indices
            others = draw.permutation(own[own != item])[: self.config.history_items]
            histories[row, : len(others)] = others
        items = np.concatenate([positives[:, None], self._negatives(users, draw)], axis=1)
        return {"items": items.astype(np.int32), "history": histories}

    def _negatives(self, users: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Draws item rows that have events, but not of these users, [B, negatives]."""
        with_events = np.unique(self.pairs.rows)
        owner = np.repeat(users, self.config.negatives)
        found = np.zeros(len(owner), np.int32)
        for _ in range(_DRAWS):
            again = np.flatnonzero(found == 0)
            drawn = draw.choice(with_events, len(again))
            own = np.asarray(self.pairs.has_item[owner[again], drawn]).ravel()
            found[again] = np.where(own, 0, drawn)
        return found.reshape(len(users), -1)  # 0, an item without text, where none was found
