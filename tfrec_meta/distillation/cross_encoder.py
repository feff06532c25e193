"""A cross-encoder: a BERT that reads the history and a candidate together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

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
from tfrec_meta.features import FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Query, Teacher
from tfrec_meta.models.families.two_stage import rank_proposed
from tfrec_meta.models.layers.item_rows import multi_hot

_DRAWS = 20  # until a negative is none of the user's


@dataclasses.dataclass(frozen=True)
class CrossEncoderConfig:
    """What is read of a user and an item, and how often it is read.

    Args:
        fine_tuning: the recipe; its `temperature` means nothing here.
        history_items: of a user that are read, the latest; in training a new sample.
        item_tokens: of an item's text; the rest is cut off.
        negatives: items that the user has not touched, drawn alike from those that anyone has, for
            each event in training.
        candidates: items of the retriever that are put in order, for each query.
    """

    fine_tuning: FineTuningConfig = FineTuningConfig()
    history_items: int = 8
    item_tokens: int = 16
    negatives: int = 7
    candidates: int = 50

    def __post_init__(self) -> None:
        for name in ("history_items", "item_tokens", "negatives", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 1 or more.")

    @property
    def tokens(self) -> int:
        """Of the history, a candidate, and what stands around them."""
        return (self.history_items + 1) * self.item_tokens + 3


class CrossEncoder:
    """Puts a retriever's best items in the order of a BERT that reads them with the history.

    It teaches as any `Teacher` does, but slowly: each query costs `candidates` readings. Other
    items come below, in the retriever's order, and so do those of the history. Users without a
    history have the retriever's order.

    Args:
        encoder: of which checkpoint and tokens are taken.
        retriever: a fitted model or another teacher.
        texts: of the catalogue, in its order.
        config: what is read.

    Raises:
        ValueError: if the checkpoint reads fewer tokens or has adapters or a prefix already, or
            there are more or fewer texts than items.

    Source: Nogueira and Cho, "Passage Re-ranking with BERT", 2019.
    """

    has_embeddings = False

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
            raise ValueError(f"{len(texts)} texts of {self.spec.catalogue_size} items.")
        longest = int(encoder.checkpoint.config.get("max_position_embeddings", 512))
        if config.tokens > longest:
            raise ValueError(
                f"`history_items`={config.history_items} and `item_tokens`={config.item_tokens} "
                f"make {config.tokens} tokens, but {encoder.checkpoint.name} reads {longest}. "
                "Lower one of the two."
            )
        tokenizer = encoder.tokenizer
        self._around = [tokenizer.cls_token_id, tokenizer.sep_token_id]
        tokens = tokenizer(
            ["", *texts],
            add_special_tokens=False,
            padding="max_length",
            truncation=True,
            max_length=config.item_tokens,
            return_tensors="np",
        )
        ids, mask = (tokens[k].astype(np.int32) for k in ("input_ids", "attention_mask"))
        ids[0], mask[0] = 0, 0  # the unknown item says nothing
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
        """The weights that training changes."""
        return [*self.added, *self.head.trainable_weights]

    def pair_scores(
        self, history: tf.Tensor, items: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """How well items fit histories.

        Args:
            history: int32 [n, h], item rows, 0 pads.
            items: int32 [n].
            training: whether there is dropout.

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
        """[CLS] history [SEP] candidate [SEP]: ids, mask and types, int32 [n, longest of them],
        with the padding last."""
        n, (cls, sep) = tf.shape(items)[0], self._around
        width = self.config.history_items * self.config.item_tokens
        read = self._latest(history)
        one = tf.ones([n, 1], tf.int32)
        ids = [
            cls * one,
            tf.reshape(tf.gather(self._ids, read), [n, width]),
            sep * one,
            tf.gather(self._ids, items),
            sep * one,
        ]
        mask = [
            one,
            tf.reshape(tf.gather(self._mask, read), [n, width]),
            one,
            tf.gather(self._mask, items),
            one,
        ]
        types = [tf.fill(tf.shape(part), int(place > 2)) for place, part in enumerate(ids)]
        kept = tf.concat(mask, axis=1)
        # No gaps, as the BERT has met none.
        order = tf.argsort(1 - kept, axis=1, stable=True)
        found = (tf.concat(ids, axis=1) * kept, kept, tf.concat(types, axis=1) * kept)
        longest = tf.reduce_max(tf.reduce_sum(kept, axis=1))
        ids, mask, types = (tf.gather(part, order[:, :longest], batch_dims=1) for part in found)
        return ids, mask, types

    def _latest(self, history: tf.Tensor) -> tf.Tensor:
        """int32 [n, history_items], the last items of histories that are padded at the right."""
        size = self.config.history_items
        padded = tf.pad(history, [[0, 0], [size, 0]])
        # Items move to the end, in their order; of those, the last ones.
        order = tf.argsort(tf.cast(padded > 0, tf.int32), axis=1, stable=True)
        return tf.gather(padded, order, batch_dims=1)[:, -size:]

    # A teacher.

    def logits_or_prior(self, query: Query) -> tf.Tensor:
        """float32 [B, catalogue]."""
        retrieved = self.retriever.logits_or_prior(query)
        history = query["history"]
        own = multi_hot(history, len(self.spec.items))[:, 1:] > 0
        count = min(self.config.candidates, self.spec.catalogue_size)
        values, columns = tf.math.top_k(tf.where(own, float("-inf"), retrieved), k=count)

        def of_one(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            one, items = given
            return self.pair_scores(tf.repeat(one[None], count, axis=0), items)

        ranked = tf.map_fn(  # one query at a time: all at once may not fit
            of_one, (history, columns + 1), fn_output_signature=tf.TensorSpec([count], tf.float32)
        )
        scores = rank_proposed(retrieved, columns, ranked, values > float("-inf"))
        return tf.where(tf.reduce_any(history > 0, axis=1)[:, None], scores, retrieved)

    def item_embeddings(self) -> tf.Tensor:
        """Raises AttributeError: it has none."""
        raise AttributeError("A cross-encoder has no vectors of items.")

    def state(self) -> dict[str, np.ndarray]:
        """All weights, and the retriever's state."""
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
    """Fine-tunes a BERT to tell, of a history and an item, whether they are of one user.

    Of each event, the item is to be found among `negatives` others by a sample of the user's other
    items. Items that nobody has touched are no negatives.

    Args:
        encoder: where it begins; it stays as it is.
        data: training events, with an items table.
        retriever: fitted: whose best items are put in order.
        columns: of the items table, that make up a text.
        config: the shape and the recipe; a batch is of `batch_size` events.
        folder: for checkpoints; the same call goes on after a kill.
        progress: whether to show a bar.

    Raises:
        ValueError: as `CrossEncoder`; without texts; if no user has two items of the catalogue; or
            if `folder` holds another run.
    """
    texts = item_texts(retriever.spec, data.items, columns)
    found = CrossEncoder(encoder, retriever, texts, config)
    events = Events(Pairs.of(data, retriever.spec), config)
    step = tf.Variable(0, dtype=tf.int64)
    seed_dropout(found.model, config.fine_tuning.seed, step)

    def loss(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        items, histories = batch["items"], batch["history"]
        several = tf.shape(items)[1]
        scores = found.pair_scores(
            tf.repeat(histories, several, axis=0), tf.reshape(items, [-1]), training=True
        )
        logits = tf.reshape(scores, tf.shape(items))
        chosen = tf.zeros([tf.shape(items)[0]], tf.int32)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(chosen, logits)
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
    if recipe.mixed_precision:  # for training alone
        learned = [weight.numpy() for weight in trained]
        found._build(encoder.checkpoint.model())
        for weight, value in zip(found.trained, learned, strict=True):
            weight.assign(value)
    return found


@dataclasses.dataclass(frozen=True)
class Events:
    """What batches pairs of users and items become.

    Attributes:
        pairs: of users and items.
        config: the shape and the recipe.
    """

    pairs: Pairs
    config: CrossEncoderConfig

    @property
    def steps(self) -> int:
        """In all."""
        return steps_over(len(self.pairs.rows), self.config.fine_tuning)

    def batches(self, step: int) -> list[dict[str, np.ndarray]]:
        """The batches of a step, alike whenever it is asked.

        Each has `items` int32 [B, 1 + negatives], the chosen one first, and `history` int32 [B,
        history_items], a sample of the user's others.
        """
        recipe = self.config.fine_tuning
        draw = np.random.default_rng([recipe.seed, recipe.epochs, step])
        parts = batches_over(step, len(self.pairs.rows), recipe)
        return [self._batch(part, draw) for part in parts]

    def _batch(self, events: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        users, chosen = self.pairs.users[events], self.pairs.rows[events]
        histories = np.zeros((len(events), self.config.history_items), np.int32)
        for row, (user, item) in enumerate(zip(users, chosen, strict=True)):
            own = self.pairs.touched[user].indices
            others = draw.permutation(own[own != item])[: self.config.history_items]
            histories[row, : len(others)] = others
        items = np.concatenate([chosen[:, None], self._negatives(users, draw)], axis=1)
        return {"items": items.astype(np.int32), "history": histories}

    def _negatives(self, users: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Rows of items that anyone has touched, but not these users, [B, negatives]."""
        met = np.unique(self.pairs.rows)
        owner = np.repeat(users, self.config.negatives)
        found = np.zeros(len(owner), np.int32)
        for _ in range(_DRAWS):
            again = np.flatnonzero(found == 0)
            drawn = draw.choice(met, len(again))
            own = np.asarray(self.pairs.touched[owner[again], drawn]).ravel()
            found[again] = np.where(own, 0, drawn)
        return found.reshape(len(users), -1)  # 0, an item without a text, where there is no other
