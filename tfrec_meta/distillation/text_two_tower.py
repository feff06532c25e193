"""Fine-tunes a BERT as a two-tower model in which a user is the texts of the history."""

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
_ITEMS_PER_GROUP = 16  # a user with more items has several groups per epoch


def fine_tuned(
    encoder: BertEncoder,
    data: Interactions,
    features: FeatureSpec,
    columns: Sequence[str],
    config: FineTuningConfig = FineTuningConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
) -> BertEncoder:
    """Fine-tunes a text encoder so that texts of items chosen by the same users become similar.

    The training task is to find each item of a user by the mean vector of the user's other items,
    among the items of the batch that the user does not have. All vectors are those of texts. Items
    without events are not used.

    Args:
        encoder: the initial encoder, which is not changed.
        data: training events, with an items table.
        features: a fitted spec, whose items are the catalogue.
        columns: columns of the items table that make up a text.
        config: the recipe; a batch has `batch_size` users with up to 16 items each.
        folder: for checkpoints. The same call resumes an interrupted training and returns the
            result of a finished one.
        progress: whether to show a progress bar.

    Returns:
        A new encoder with the same cache folder, and with its own checksum, vectors and curve.

    Raises:
        ValueError: if there are no texts, no user has two items of the catalogue, `encoder` has
            adapters or a prefix, or `folder` contains another run.

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
        tokens, present = (tf.gather(part[:, :longest], batch["items"]) for part in table)
        vectors = mean_of_tokens(model, tokens, present, training=True)
        return leave_one_out(vectors, batch["index"], batch["has_item"], config.temperature)

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
    vectors: tf.Tensor, index: tf.Tensor, has_item: tf.Tensor, temperature: float
) -> tf.Tensor:
    """Returns the mean cross-entropy of finding each item by the mean of its user's other items.

    Args:
        vectors: float32 [n, d], vectors of the batch's items, of length 1.
        index: int32 [users, m], rows of each user's items in `vectors`, from 1, padded with 0.
        has_item: bool [users, n], whether the user has the item. The user's other items are not
            candidates.
        temperature: divides the cosines.

    Returns:
        float32 scalar; users with a single item are ignored.
    """
    present = tf.cast(index > 0, tf.float32)
    own = tf.gather(vectors, tf.maximum(index - 1, 0)) * present[:, :, None]
    others = tf.reduce_sum(own, axis=1, keepdims=True) - own
    logits = tf.einsum("umd,nd->umn", tf.math.l2_normalize(others, axis=2), vectors) / temperature
    target = tf.one_hot(index - 1, tf.shape(vectors)[0], on_value=True, off_value=False)
    logits = tf.where(has_item[:, None, :] & ~target, -1e9, logits)
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(index - 1, 0), logits)
    counted = present * tf.cast(tf.reduce_sum(present, axis=1, keepdims=True) > 1, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(each * counted), tf.reduce_sum(counted))


@dataclasses.dataclass(frozen=True)
class Groups:
    """Divides the items of each user into groups of up to 16, and batches them.

    Attributes:
        pairs: pairs of users and items.
        config: the recipe.
    """

    pairs: Pairs
    config: FineTuningConfig
    _epochs: dict[int, list[Group]] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return steps_over(len(self._epoch(0)), self.config)

    def batches(self, step: int) -> list[dict[str, np.ndarray]]:
        """Returns the batches of a step; the result depends on the step alone.

        Each has `items` int32 [n], `index` int32 [users, 16] and `has_item` bool [users, n]; see
        `leave_one_out`.
        """
        size, several = self.config.batch_size, self.config.accumulation
        start = step * size * several
        groups = list(self._groups(start, start + size * several))
        parts = [groups[i : i + size] for i in range(0, len(groups), size)]
        return [self._batch(part) for part in parts]

    def _groups(self, start: int, stop: int) -> Iterator[Group]:
        """Yields the groups from `start` to `stop` of all epochs concatenated."""
        each = len(self._epoch(0))
        for epoch in range(start // each, min(-(-stop // each), self.config.epochs)):
            begin = epoch * each
            yield from self._epoch(epoch)[max(0, start - begin) : stop - begin]

    def _epoch(self, epoch: int) -> list[Group]:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # the first, for its length, and the latest one
                self._epochs.popitem()
            self._epochs[epoch] = self._draw(epoch)
        return self._epochs[epoch]

    def _draw(self, epoch: int) -> list[Group]:
        draw = np.random.default_rng([self.config.seed, epoch])
        users, rows = self.pairs.users, self.pairs.rows
        order = np.lexsort([draw.random(len(users)), users])
        each, firsts = np.unique(users, return_index=True)
        found: list[Group] = []
        for user, items in zip(each, np.split(rows[order], firsts[1:]), strict=True):
            # Parts of even size, because a part of a single item is useless.
            parts = np.array_split(items, -(-len(items) // _ITEMS_PER_GROUP))
            found += [(int(user), part) for part in parts]
        return [found[index] for index in draw.permutation(len(found))]

    def _batch(self, groups: list[Group]) -> dict[str, np.ndarray]:
        items, inverse = np.unique(np.concatenate([g[1] for g in groups]), return_inverse=True)
        index = np.zeros((len(groups), _ITEMS_PER_GROUP), np.int32)
        begin = 0
        for row, (_, part) in enumerate(groups):
            index[row, : len(part)] = inverse[begin : begin + len(part)] + 1
            begin += len(part)
        has_item = self.pairs.has_item[[user for user, _ in groups]][:, items].toarray()
        return {"items": items, "index": index, "has_item": has_item}
