"""The loss of a retrieval model: negatives, their sampling correction and the loss function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

import tensorflow as tf

from tfrec_meta.checks import NonNegativeInt, PositiveFloat, PositiveInt, between, share
from tfrec_meta.errors import ParameterError
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers.item_rows import is_in_history
from tfrec_meta.models.losses import retrieval_losses
from tfrec_meta.models.losses.teacher_loss import TeacherLoss, TeacherLossConfig

LossName = Literal["softmax", "bpr", "binary_cross_entropy", "cosine_contrastive"]
Negatives = Literal["in_batch", "mixed", "uniform", "full"]
LogQ = Literal["counts", "streaming", "none"]
EmbedItems = Callable[[tf.Tensor], tf.Tensor]

_NEW_GAP = 0.05  # weight of the latest gap between two batches with an item in the running mean


@dataclasses.dataclass(frozen=True)
class RetrievalLossConfig(TeacherLossConfig):
    """How a retrieval model learns from chosen items, negatives and a teacher.

    `TeacherLossConfig` describes the fields that begin with `teacher_`.

    Args:
        temperature: divides the logits.
        loss: "softmax"; "bpr" (Rendle et al., UAI 2009); "binary_cross_entropy", calibrated for
            sampled negatives (gBCE, Petrov and Macdonald, RecSys 2023); or "cosine_contrastive"
            (Mao et al., CIKM 2021), which requires towers on the unit sphere and no bias.
        negatives: "in_batch", the items of the other events of the batch; "uniform", items sampled
            from the catalogue; "mixed", both (Yang et al., "Mixed Negative Sampling for Learning
            Two-tower Neural Networks in Recommendations", WWW 2020); "full", the whole catalogue,
            which is exact, and the best choice where a batch times the catalogue fits into memory.
        uniform_negatives: items sampled per step of "uniform" and "mixed", with replacement, and
            shared by the batch.
        memory: items of the latest batches that "in_batch" and "mixed" use as additional negatives,
            with their embeddings of that time (Wang et al., "Cross-Batch Memory for Embedding
            Learning", CVPR 2020).
        hard_negatives: the number of negatives with the highest logits that count in each row; 0
            for all.
        mask_positives: whether items of the user's own history are excluded from the negatives.
        logq: how the negatives of a softmax are corrected by their sampling probability (Yi et al.,
            "Sampling-Bias-Corrected Neural Modeling", RecSys 2019): "counts" uses the popularity in
            the training data, "streaming" estimates it from the batches (their algorithm 2), "none"
            corrects nothing.
        label_smoothing: share of a softmax label that is spread over all candidates, in [0, 1).
        calibration: t of gBCE, in [0, 1]; 0 for plain binary cross-entropy.
        margin: of "cosine_contrastive", in [-1, 1].
        negative_weight: of "cosine_contrastive", above 0.
    """

    temperature: PositiveFloat = 0.25
    loss: LossName = "softmax"
    negatives: Negatives = "in_batch"
    uniform_negatives: PositiveInt = 1000
    memory: NonNegativeInt = 0
    hard_negatives: NonNegativeInt = 0
    mask_positives: bool = True
    logq: LogQ = "counts"
    label_smoothing: Annotated[float, share()] = 0.0
    calibration: Annotated[float, between(0, 1)] = 0.75
    margin: Annotated[float, between(-1, 1)] = 0.4
    negative_weight: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory and self.negatives not in ("in_batch", "mixed"):
            raise ParameterError(
                f"`memory`={self.memory} with `negatives`={self.negatives!r}; only 'in_batch' and "
                "'mixed' use earlier batches. Use 0.",
                "memory",
                "negatives",
            )

    def check_cosines(self, normalise: bool, popularity_bias: bool) -> None:
        """Checks that the towers fit the loss "cosine_contrastive".

        Raises:
            ParameterError: if their products are not cosines.
        """
        if self.loss == "cosine_contrastive" and not (normalise and not popularity_bias):
            raise ParameterError(
                "`loss`='cosine_contrastive' compares cosines. Use `normalise`=True and "
                "`popularity_bias`=False.",
                "loss",
                "normalise",
                "popularity_bias",
            )

    def check_teachable(self) -> None:
        """Checks that the loss can include a teacher, which scores the whole catalogue.

        Raises:
            ParameterError: if it cannot.
        """
        if self.negatives != "full" or self.loss != "softmax":
            raise ParameterError(
                f"`negatives`={self.negatives!r} and `loss`={self.loss!r}, but a teacher scores "
                "the whole catalogue. Use 'full' and 'softmax'.",
                "negatives",
                "loss",
            )

    def idle_fields(self, taught: bool) -> set[str]:
        """Returns the fields that have no effect, given the values of the others.

        Args:
            taught: whether the model learns from a teacher.
        """
        sampled = self.negatives in ("mixed", "uniform")
        softmax = self.loss == "softmax"
        used = {
            "uniform_negatives": sampled,
            "memory": self.memory > 0,
            "hard_negatives": self.hard_negatives > 0,
            "logq": softmax and self.negatives in ("in_batch", "mixed"),
            "label_smoothing": softmax and self.label_smoothing > 0,
            "calibration": self.loss == "binary_cross_entropy",
            "margin": self.loss == "cosine_contrastive",
            "negative_weight": self.loss == "cosine_contrastive",
        }
        used |= {field.name: taught for field in dataclasses.fields(TeacherLossConfig)}
        return {name for name, is_used in used.items() if not is_used}


class Choices(NamedTuple):
    """A batch of queries, each with the item that its user chose.

    Attributes:
        query: float32 [B, d], the embeddings of the queries.
        items: int32 [B], the chosen items.
        own: int32 [W, H], the items of the users, 0 pads.
        owner: int64 [B], the row of `own` of each query; None where W is B, in order.
        sample_weight: float32 [B].
        feedback: float32 [B], the weight of each row. Below 0, the item is a known negative: the
            row is penalised for a high probability of the item, which is no negative of other rows.
    """

    query: tf.Tensor
    items: tf.Tensor
    own: tf.Tensor
    owner: tf.Tensor | None = None
    sample_weight: tf.Tensor | None = None
    feedback: tf.Tensor | None = None


class RetrievalTask(tf_keras.layers.Layer):
    """Computes the loss of a batch, as `tfrs.tasks.Retrieval` does, with more choices.

    Softmax candidates that occur several times in a batch are scored once and weighted by their
    number, which gives the same loss in a fraction of the time.

    Args:
        config: the settings of the loss.
        items: rows of the item vocabulary.
        dim: of the embeddings.
        only_met: whether items without training events are excluded from the negatives. As
            negatives, only their features would be trained, to low scores.
    """

    def __init__(self, config: RetrievalLossConfig, items: int, dim: int, only_met: bool = False):
        super().__init__(name="retrieval_task")
        self._config = config
        self._items = items
        self._only_met = only_met
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
        choices: Choices,
        embed_items: EmbedItems,
        counts: tf.Tensor,
        draw: tf.Tensor,
        merge: bool = True,
        teacher_loss: TeacherLoss | None = None,
        teacher_logits: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the mean loss, float32 scalar.

        Args:
            choices: of the batch.
            embed_items: item rows int32 [n] to float32 [n, d].
            counts: float32 [catalogue], how often each item is the chosen one in the training rows.
            draw: int64 [2], the seed of sampled negatives.
            merge: whether repeated candidates of a softmax are scored once. The number of
                candidates is then dynamic.
            teacher_loss: the loss of a teacher; requires `negatives`="full".
            teacher_logits: float32 [B, catalogue], `teacher_loss.scores` of these queries.
        """
        config = self._config
        query, items, own, owner, sample_weight, feedback = choices
        # Only in a softmax does a shift of the logit count a candidate several times.
        merge &= config.loss == "softmax"
        negative = None if feedback is None else feedback < 0
        rows, place, times = self._candidates(items, draw, merge, negative)
        vectors = embed_items(rows)
        chosen = tf.reduce_sum(query * tf.gather(vectors, place), axis=1)
        if config.memory:
            rows = tf.concat([rows, self._remembered.read_value()], axis=0)
            vectors = tf.concat([vectors, self._vectors.read_value()], axis=0)
            there = tf.cast(self._remembered > 0, tf.float32)  # the memory is not full at first
            times = tf.concat([times, there], axis=0)
        others = tf.matmul(query, vectors, transpose_b=True)
        if config.loss == "softmax" and config.negatives != "full":
            shift = tf.math.log(tf.maximum(times, 1.0))
            chance = self._chance(rows, items, counts)
            if chance is not None:
                log_chance = tf.math.log(tf.maximum(chance, 1e-6))
                shift -= log_chance
                correction = tf.gather(log_chance, place)
                if negative is not None:  # a known negative is not sampled
                    correction = tf.where(negative, 0.0, correction)
                chosen -= correction
            others += shift
        allowed = (rows != items[:, None]) & (times > 0)
        if config.mask_positives:
            met = is_in_history(own, rows, self._items)
            allowed &= ~(met if owner is None else tf.gather(met, owner))
        teacher_losses = None
        if teacher_loss is not None:
            scored = allowed | (rows == items[:, None])
            teacher_losses = teacher_loss.of_scores(
                tf.where(scored, others, retrieval_losses.MASKED), teacher_logits
            )
        if self._only_met:
            allowed &= tf.gather(counts, tf.maximum(rows - 1, 0)) > 0
        others = tf.where(allowed, others, retrieval_losses.MASKED)
        if config.hard_negatives:
            count = tf.minimum(config.hard_negatives, tf.shape(others)[1])
            others = tf.math.top_k(others, count, sorted=False).values
        losses = self._loss_of_rows(chosen, others)
        if negative is not None:
            losses = tf.where(negative, self._loss_of_known_negatives(chosen, others), losses)
        if teacher_losses is not None:
            share = config.teacher_weight
            losses = (1.0 - share) * losses + share * teacher_losses
        if feedback is not None:
            losses *= tf.abs(feedback)
        loss = tf.reduce_mean(losses if sample_weight is None else losses * sample_weight)
        return loss if teacher_loss is None else loss + teacher_loss.of_vectors(embed_items, draw)

    def _candidates(
        self, items: tf.Tensor, draw: tf.Tensor, merge: bool, negative: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the batch is compared with, but for the memory.

        Returns:
            Item rows int32 [C]; where in them each chosen item is, int32 [B]; and how often each
            counts as a negative, float32 [C].
        """
        config = self._config
        if config.negatives == "full":
            return tf.range(1, self._items), items - 1, tf.ones([self._items - 1])
        rows, times = items, tf.ones_like(items, tf.float32)
        if negative is not None:
            times = tf.where(negative, 0.0, times)
        if config.negatives == "uniform":
            times = tf.zeros_like(times)
        if config.negatives != "in_batch":
            count = config.uniform_negatives
            drawn = tf.random.stateless_uniform([count], draw, 1, self._items, tf.int32)
            rows = tf.concat([rows, drawn], axis=0)
            times = tf.concat([times, tf.ones([count])], axis=0)
        if not merge:
            return rows, tf.range(tf.shape(items)[0]), times
        rows, place = tf.unique(rows)
        times = tf.math.unsorted_segment_sum(times, place, tf.shape(rows)[0])
        return rows, place[: tf.shape(items)[0]], times

    def _loss_of_rows(self, chosen: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """The configured loss of each row, float32 [B]."""
        config = self._config
        if config.loss == "bpr":
            return retrieval_losses.bpr(chosen, others)
        if config.loss == "binary_cross_entropy":
            allowed = tf.cast(retrieval_losses.is_allowed(others), tf.float32)
            catalogue = max(self._items - 2, 1)  # possible negatives of one choice
            sampled = tf.reduce_sum(allowed, axis=1) / catalogue
            sampled = tf.clip_by_value(sampled, 1 / catalogue, 1.0)
            beta = retrieval_losses.calibrated_beta(sampled, config.calibration)
            return retrieval_losses.binary_cross_entropy(chosen, others, beta)
        if config.loss == "cosine_contrastive":
            return retrieval_losses.cosine_contrastive(
                chosen * config.temperature,
                tf.where(retrieval_losses.is_allowed(others), others * config.temperature, others),
                config.margin,
                config.negative_weight,
            )
        return retrieval_losses.softmax(chosen, others, config.label_smoothing)

    def _loss_of_known_negatives(self, chosen: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        """The penalty of each row for the score of its known negative, float32 [B]."""
        config = self._config
        if config.loss == "bpr":
            return retrieval_losses.bpr_negative(chosen, others)
        if config.loss == "binary_cross_entropy":
            return tf.math.softplus(chosen)
        if config.loss == "cosine_contrastive":
            return config.negative_weight * tf.nn.relu(chosen * config.temperature - config.margin)
        return retrieval_losses.softmax_negative(chosen, others)

    def remember(self, items: tf.Tensor, embed_items: EmbedItems) -> None:
        """Updates memory and popularity estimates with the items of a step, after its update.

        Args:
            items: int32 of any shape, 0 pads.
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
            # For an item's first occurrence, the number of steps so far is the best estimate.
            gap = tf.where(before > 0, before + _NEW_GAP * (now - before), now)
            self._gap.scatter_update(tf.IndexedSlices(gap, rows))
            self._last.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), self._steps), rows))

    def _chance(self, rows: tf.Tensor, items: tf.Tensor, counts: tf.Tensor) -> tf.Tensor | None:
        """The expected number of occurrences of each candidate, up to a factor, float32 [C]."""
        config = self._config
        if config.negatives == "uniform" or config.logq == "none":
            return None
        if config.logq == "counts":
            chance = tf.gather(counts, tf.maximum(rows - 1, 0))
            if config.negatives == "mixed":  # otherwise only ratios matter, and the sum takes time
                expected = tf.cast(tf.size(items) + config.memory, tf.float32)
                chance *= expected / tf.reduce_sum(counts)
        else:
            gap = tf.gather(self._gap, rows)
            batches = 1.0 + config.memory / tf.cast(tf.size(items), tf.float32)
            chance = tf.where(gap > 0, batches / tf.maximum(gap, 1.0), 1e-6)
        if config.negatives == "mixed":
            chance += config.uniform_negatives / (self._items - 1)
        # Only ratios matter: relative to the most frequent candidate.
        return chance / tf.reduce_max(chance)

    def _training_only(
        self, name: str, shape: Sequence[int], dtype: tf.DType = tf.float32
    ) -> tf.Variable:
        return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name)
