"""A BERT fine-tuned on interactions as a two-tower model: the user is the texts of the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec_meta.content.bert import BertEncoder, mean_of_tokens
from tfrec_meta.content.item_text import item_texts
from tfrec_meta.content.parameter_efficient import tuned_weights
from tfrec_meta.data import Interactions
from tfrec_meta.distillation.fine_tuning import (
    FineTuningConfig,
    checksum_of,
    fit,
    seed_dropout,
    steps_over,
)
from tfrec_meta.distillation.pairs import Pairs
from tfrec_meta.features import FeatureSpec

Group = tuple[int, np.ndarray]  # a user, and some of the user's item rows
_ITEMS_OF_A_USER = 16  # in a batch; a user with more is met several times an epoch


def fine_tuned(
    encoder: BertEncoder,
    data: Interactions,
    features: FeatureSpec,
    columns: Sequence[str],
    config: FineTuningConfig = FineTuningConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
) -> BertEncoder:
    """An encoder of texts like `encoder` that has learned who chooses what together.

    Each item of a user is to be found, among the items of the batch that the user has not touched,
    by the mean of the user's other items: all of them are only known by their texts. Items that
    nobody has touched are in no batch.

    Args:
        encoder: where it begins; it stays as it is.
        data: training events, with an items table.
        features: fitted: the catalogue.
        columns: of the items table, that make up a text.
        config: the recipe; a batch is of `batch_size` users, of each up to 16 items.
        folder: for checkpoints; the same call goes on after a kill, and is done at once after the
            end.
        progress: whether to show a bar.

    Returns:
        A new encoder with the same cache, and a checksum, encodings and a curve of its own.

    Raises:
        ValueError: without texts, if no user has two items of the catalogue, if `encoder` has
            adapters or a prefix already, or if `folder` holds another run.

    Source: "Sentence-BERT" (EMNLP 2019) with in-batch negatives (Henderson et al., "Efficient
    Natural Language Response Suggestion for Smart Reply", 2017).
    """
    encoder.checkpoint.check_plain()
    groups = Groups(Pairs.of(data, features), config)
    ids, mask = encoder.tokens(["", *item_texts(features, data.items, columns)])
    model = encoder.checkpoint.model(config.mixed_precision, config.dropout)
    step = tf.Variable(0, dtype=tf.int64)
    seed_dropout(model, config.seed, step)
    weights = tuned_weights(model, config.method, config.size, config.seed)
    table = tf.constant(ids), tf.constant(mask)

    def loss(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        longest = tf.reduce_max(tf.reduce_sum(tf.gather(table[1], batch["items"]), axis=1))
        taken, kept = (tf.gather(part[:, :longest], batch["items"]) for part in table)
        vectors = mean_of_tokens(model, taken, kept, training=True)
        return leave_one_out(vectors, batch["place"], batch["touched"], config.temperature)

    curve = fit(
        weights,
        loss,
        groups.batches,
        groups.steps,
        config,
        step,
        folder,
        {
            "checkpoint": encoder.checkpoint.identity,
            "max_tokens": encoder.max_tokens,
            "texts": checksum_of([ids]),
            "events": checksum_of([groups.pairs.users, groups.pairs.rows]),
        },
        progress,
    )
    learned = encoder.checkpoint.tuned(model, weights, config.method, config.size)
    found = BertEncoder(learned, encoder.max_tokens, encoder.cache_folder)
    found.curve = curve
    return found


def leave_one_out(
    vectors: tf.Tensor, place: tf.Tensor, touched: tf.Tensor, temperature: float
) -> tf.Tensor:
    """The mean cross-entropy of finding each item by the mean of the others of its user.

    Args:
        vectors: float32 [n, d], of length 1, of the batch's items.
        place: int32 [users, m], their rows in `vectors` from 1, 0 pads.
        touched: bool [users, n], which items are the user's; those but the one to be found are no
            candidates.
        temperature: divides cosines.

    Returns:
        float32 scalar; users with one item alone count for nothing.
    """
    there = tf.cast(place > 0, tf.float32)
    own = tf.gather(vectors, tf.maximum(place - 1, 0)) * there[:, :, None]
    others = tf.reduce_sum(own, axis=1, keepdims=True) - own
    logits = tf.einsum("umd,nd->umn", tf.math.l2_normalize(others, axis=2), vectors) / temperature
    wanted = tf.one_hot(place - 1, tf.shape(vectors)[0], on_value=True, off_value=False)
    logits = tf.where(touched[:, None, :] & ~wanted, -1e9, logits)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(place - 1, 0), logits)
    counted = there * tf.cast(tf.reduce_sum(there, axis=1, keepdims=True) > 1, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(each * counted), tf.reduce_sum(counted))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Up to 16 items of a user a group, and what batches they become.

    Attributes:
        pairs: of users and items.
        config: the recipe.
    """

    pairs: Pairs
    config: FineTuningConfig
    _made: dict[int, list[Group]] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """In all."""
        return steps_over(len(self._epoch(0)), self.config)

    def batches(self, step: int) -> list[dict[str, np.ndarray]]:
        """The batches of a step, alike whenever it is asked.

        Each has `items` int32 [n], `place` int32 [users, 16] and `touched` bool [users, n]; see
        `leave_one_out`.
        """
        size, several = self.config.batch_size, self.config.accumulation
        start = step * size * several
        groups = list(self._groups(start, start + size * several))
        parts = [groups[i : i + size] for i in range(0, len(groups), size)]
        return [self._batch(part) for part in parts]

    def _groups(self, start: int, stop: int) -> Iterator[Group]:
        """Groups of all epochs in a row, from one place to another."""
        each = len(self._epoch(0))
        for epoch in range(start // each, min(-(-stop // each), self.config.epochs)):
            begin = epoch * each
            yield from self._epoch(epoch)[max(0, start - begin) : stop - begin]

    def _epoch(self, epoch: int) -> list[Group]:
        if epoch not in self._made:
            while len(self._made) > 1:  # the first, for its length, and the last one
                self._made.popitem()
            self._made[epoch] = self._drawn(epoch)
        return self._made[epoch]

    def _drawn(self, epoch: int) -> list[Group]:
        draw = np.random.default_rng([self.config.seed, epoch])
        users, rows = self.pairs.users, self.pairs.rows
        order = np.lexsort([draw.random(len(users)), users])
        each, firsts = np.unique(users, return_index=True)
        found: list[Group] = []
        for user, items in zip(each, np.split(rows[order], firsts[1:]), strict=True):
            # As even as can be: of 17 items, the last should not stand alone.
            parts = np.array_split(items, -(-len(items) // _ITEMS_OF_A_USER))
            found += [(int(user), part) for part in parts]
        return [found[place] for place in draw.permutation(len(found))]

    def _batch(self, groups: list[Group]) -> dict[str, np.ndarray]:
        items, inverse = np.unique(np.concatenate([g[1] for g in groups]), return_inverse=True)
        place = np.zeros((len(groups), _ITEMS_OF_A_USER), np.int32)
        begin = 0
        for row, (_, part) in enumerate(groups):
            place[row, : len(part)] = inverse[begin : begin + len(part)] + 1
            begin += len(part)
        touched = self.pairs.touched[[user for user, _ in groups]][:, items].toarray()
        return {"items": items, "place": place, "touched": touched}
