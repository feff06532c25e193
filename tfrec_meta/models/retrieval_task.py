"""The loss of a retrieval model: which candidates a batch is compared with, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from tfrec_meta.keras import tf_keras
from tfrec_meta.models import retrieval_losses
from tfrec_meta.models.towers import stands_in

import tensorflow as tf
import tensorflow_recommenders as tfrs

LossName = Literal["softmax", "bpr", "binary_cross_entropy", "cosine_contrastive"]
Negatives = Literal["in_batch", "mixed", "uniform", "full"]
LogQ = Literal["counts", "streaming", "none"]
EmbedItems = Callable[[tf.Tensor], tf.Tensor]

_NEW_GAP = 0.05  # what the latest gap between two batches with an item adds to the running mean


@dataclasses.dataclass(frozen=True)
class RetrievalLossConfig:
    """How a retrieval model learns what was chosen from what was not.

    Args:
        temperature: divides the logits.
        loss: "softmax"; "bpr" (Rendle et al., UAI 2009); "binary_cross_entropy", calibrated for
            sampled negatives (gBCE, Petrov and Macdonald, RecSys 2023); or "cosine_contrastive"
            (Mao et al., CIKM 2021), which needs towers on the unit sphere and no bias.
        negatives: "in_batch", the items that the others of the batch chose; "uniform", items drawn
            from the catalogue; "mixed", both (Yang et al., "Mixed Negative Sampling for Learning
            Two-tower Neural Networks in Recommendations", WWW 2020); "full", the whole catalogue:
            exact, and the best choice where a batch times the catalogue fits.
        uniform_negatives: drawn for each step of "uniform" and "mixed", with replacement, and
            shared by the batch.
        memory: items of the latest batches that are negatives of "in_batch" and "mixed" as well,
            with the embeddings that they had then (Wang et al., "Cross-Batch Memory for Embedding
            Learning", CVPR 2020).
        hard_negatives: of each row, only so many with the highest logits count; 0 for all.
        mask_positives: whether items of the user's own history are no negatives.
        logq: how negatives of a softmax are corrected by their chance of being there (Yi et al.,
            "Sampling-Bias-Corrected Neural Modeling", RecSys 2019): "counts" knows the data's
            popularity, "streaming" estimates it from the batches as they come (their algorithm 2),
            "none" corrects nothing.
        label_smoothing: share of a softmax's label that is spread over all candidates, in [0, 1).
        calibration: t of gBCE, in [0, 1]; 0 for plain binary cross-entropy.
        margin: of "cosine_contrastive", in [-1, 1].
        negative_weight: of "cosine_contrastive".
    """

    temperature: float = 0.25
    loss: LossName = "softmax"
    negatives: Negatives = "in_batch"
    uniform_negatives: int = 1000
    memory: int = 0
    hard_negatives: int = 0
    mask_positives: bool = True
    logq: LogQ = "counts"
    label_smoothing: float = 0.0
    calibration: float = 0.75
    margin: float = 0.4
    negative_weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"`temperature`={self.temperature}; use a number above 0.")
        for name, allowed in (("loss", LossName), ("negatives", Negatives), ("logq", LogQ)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"`{name}`={getattr(self, name)!r}; use one of {get_args(allowed)}."
                )
        for name, least in (("uniform_negatives", 1), ("memory", 0), ("hard_negatives", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}`={getattr(self, name)}; use {least} or more.")
        if self.memory and self.negatives not in ("in_batch", "mixed"):
            raise ValueError(
                f"`memory`={self.memory} with `negatives`={self.negatives!r}; only 'in_batch' and "
                "'mixed' remember earlier batches. Use 0."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"`label_smoothing`={self.label_smoothing}; use a share in [0, 1).")
        if not 0 <= self.calibration <= 1:
            raise ValueError(f"`calibration`={self.calibration}; use a number from 0 to 1.")
        if not -1 <= self.margin <= 1:
            raise ValueError(f"`margin`={self.margin}; use a cosine, from -1 to 1.")
        if not self.negative_weight > 0:
            raise ValueError(f"`negative_weight`={self.negative_weight}; use a number above 0.")


class RetrievalTask(tf_keras.layers.Layer):
    """The loss of a batch, through `tfrs.tasks.Retrieval`.

    Args:
        config: how.
        items: rows of the item vocabulary.
        dim: of the embeddings.
    """

    def __init__(self, config: RetrievalLossConfig, items: int, dim: int):
        super().__init__(name="retrieval_task")
        self._config = config
        self._items = items
        self._loss = _Loss(config, items)
        self._task = tfrs.tasks.Retrieval(
            loss=self._loss,
            remove_accidental_hits=True,
            num_hard_negatives=config.hard_negatives or None,
        )
        if config.memory:
            self._remembered = self._training_only("remembered", [config.memory], tf.int32)
            self._vectors = self._training_only("remembered_vectors", [config.memory, dim])
            self._next = self._training_only("remember_next", [], tf.int64)
        if config.logq == "streaming":
            self._last = self._training_only("last_met", [items])
            self._gap = self._training_only("mean_gap", [items])
            self._steps = self._training_only("steps_met", [])

    def call(
        self,
        query: tf.Tensor,
        items: tf.Tensor,
        embed_items: EmbedItems,
        own: tf.Tensor,
        owner: tf.Tensor | None,
        counts: tf.Tensor,
        draw: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The mean loss, float32 scalar.

        Args:
            query: float32 [B, d].
            items: int32 [B], what each query chose.
            embed_items: item rows int32 [n] to float32 [n, d].
            own: int32 [W, H], the items of users, 0 pads.
            owner: int64 [B], whose row of `own` a query's is; None where W is B, in order.
            counts: float32 [catalogue], interactions of each item in the training data.
            draw: int64 [2], what negatives are drawn from.
            sample_weight: float32 [B].
        """
        if self._config.negatives == "full":
            return self._full(query, items, embed_items, own, owner, sample_weight)
        candidates, vectors = [items], [embed_items(items)]
        if self._config.negatives != "in_batch":
            shape = [self._config.uniform_negatives]
            drawn = tf.random.stateless_uniform(shape, draw, 1, self._items, tf.int32)
            candidates.append(drawn)
            vectors.append(embed_items(drawn))
        if self._config.memory:
            candidates.append(self._remembered.read_value())
            vectors.append(self._vectors.read_value())
        rows = tf.concat(candidates, axis=0)
        return self._task(
            query,
            tf.concat(vectors, axis=0),
            sample_weight=sample_weight,
            candidate_ids=rows,
            candidate_sampling_probability=self._chance(rows, items, counts),
            score_mask=self._mask(rows, items, own, owner),
            compute_metrics=False,
        )

    def _full(
        self,
        query: tf.Tensor,
        items: tf.Tensor,
        embed_items: EmbedItems,
        own: tf.Tensor,
        owner: tf.Tensor | None,
        sample_weight: tf.Tensor | None,
    ) -> tf.Tensor:
        rows = tf.range(1, self._items)
        logits = tf.matmul(query, embed_items(rows), transpose_b=True)
        labels = tf.one_hot(items - 1, self._items - 1)
        if self._config.mask_positives:
            masked = _of_owner(stands_in(own, rows, self._items), owner) & (labels == 0)
            logits = tf.where(masked, 2 * retrieval_losses.MASKED, logits)
        if self._config.hard_negatives:
            mining = tfrs.layers.loss.HardNegativeMining(self._config.hard_negatives)
            logits, labels = mining(logits, labels)
        return self._loss(labels, logits, sample_weight=sample_weight)

    def remember(self, items: tf.Tensor, embed_items: EmbedItems) -> None:
        """Takes in what a step chose, after its update.

        Args:
            items: int32 of any shape, 0 for none.
            embed_items: as for `call`.
        """
        config = self._config
        if not config.memory and config.logq != "streaming":
            return
        items = tf.boolean_mask(items, items > 0)
        if config.memory:
            latest = items[-config.memory :]
            count = tf.size(latest, tf.int64)
            place = (self._next + tf.range(count)) % config.memory
            self._remembered.scatter_update(tf.IndexedSlices(latest, place))
            self._vectors.scatter_update(tf.IndexedSlices(embed_items(latest), place))
            self._next.assign((self._next + count) % config.memory)
        if config.logq == "streaming":
            self._steps.assign_add(1.0)
            rows, _ = tf.unique(items)
            before, now = tf.gather(self._gap, rows), self._steps - tf.gather(self._last, rows)
            # Of an item that is met for the first time, all steps so far are the best guess.
            gap = tf.where(before > 0, before + _NEW_GAP * (now - before), now)
            self._gap.scatter_update(tf.IndexedSlices(gap, rows))
            self._last.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), self._steps), rows))

    def _chance(self, rows: tf.Tensor, items: tf.Tensor, counts: tf.Tensor) -> tf.Tensor | None:
        """How often each candidate can be expected among the candidates, float32 [C]."""
        config = self._config
        if config.loss != "softmax" or config.negatives == "uniform" or config.logq == "none":
            return None
        if config.logq == "counts":
            share = tf.concat([[0.0], counts / tf.reduce_sum(counts)], axis=0)
            chance = tf.cast(tf.size(items) + config.memory, tf.float32) * tf.gather(share, rows)
        else:
            gap = tf.gather(self._gap, rows)
            batches = 1.0 + config.memory / tf.cast(tf.size(items), tf.float32)
            chance = tf.where(gap > 0, batches / tf.maximum(gap, 1.0), 1e-6)
        if config.negatives == "mixed":
            chance += config.uniform_negatives / (self._items - 1)
        # Only ratios matter, and TFRS clips at 1e-6 and 1: so relative to the most frequent.
        return chance / tf.reduce_max(chance)

    def _mask(
        self, rows: tf.Tensor, items: tf.Tensor, own: tf.Tensor, owner: tf.Tensor | None
    ) -> tf.Tensor | None:
        """bool [B, C], False where a candidate is not to be compared with."""
        batch, config = tf.shape(items)[0], self._config
        chosen = tf.eye(batch, tf.shape(rows)[0], dtype=tf.bool)
        mask = None
        if config.mask_positives:
            mask = ~_of_owner(stands_in(own, rows, self._items), owner) | chosen
        if config.negatives == "uniform":
            drawn = tf.range(tf.shape(rows)[0])[None, :] >= batch
            mask = chosen | (drawn if mask is None else mask & drawn)
        if config.memory:  # which is not full at first
            there = (rows > 0)[None, :]
            mask = (chosen | there) if mask is None else mask & there
        return mask

    def _training_only(
        self, name: str, shape: Sequence[int], dtype: tf.DType = tf.float32
    ) -> tf.Variable:
        return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name)


class _Loss(tf_keras.losses.Loss):
    """The loss by name, as TFRS's task takes it."""

    def __init__(self, config: RetrievalLossConfig, items: int):
        super().__init__(reduction=tf_keras.losses.Reduction.SUM_OVER_BATCH_SIZE)
        self._config = config
        self._others = max(items - 2, 1)  # negatives that the catalogue has for one choice

    def call(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        config = self._config
        if config.loss == "bpr":
            return retrieval_losses.bpr(labels, logits)
        if config.loss == "binary_cross_entropy":
            allowed = tf.cast(retrieval_losses.is_allowed(logits), tf.float32)
            negatives = tf.reduce_sum(allowed, axis=1) - 1.0
            sampled = tf.clip_by_value(negatives / self._others, 1.0 / self._others, 1.0)
            beta = retrieval_losses.calibrated_beta(sampled, config.calibration)
            return retrieval_losses.binary_cross_entropy(labels, logits, beta)
        if config.loss == "cosine_contrastive":
            cosines = tf.where(
                retrieval_losses.is_allowed(logits), logits * config.temperature, logits
            )
            return retrieval_losses.cosine_contrastive(
                labels, cosines, config.margin, config.negative_weight
            )
        return retrieval_losses.softmax(labels, logits, config.label_smoothing)


def _of_owner(found: tf.Tensor, owner: tf.Tensor | None) -> tf.Tensor:
    return found if owner is None else tf.gather(found, owner)
