"""A smaller BERT: some layers of a larger one, taught what the larger one makes of texts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_meta.content.bert import BertEncoder, check_strings, pooled
from tfrec_meta.content.parameter_efficient import last_values, tuned_weights
from tfrec_meta.distillation.fine_tuning import (
    FineTuningConfig,
    batches_over,
    checksum_of,
    fit,
    seed_dropout,
    steps_over,
)
from tfrec_meta.models.losses.distillation_losses import cosine, value_relations


@dataclasses.dataclass(frozen=True)
class SmallBertConfig:
    """Shape and losses.

    Args:
        layers: of the student, which are copied from the teacher, evenly from first to last; of 12,
            6 are those that DistilBERT has.
        vectors: weight of 1 - cosine of the vectors that both have of a text.
        relations: weight of MiniLM's value relations: how the tokens' values of the last layer's
            heads lie to each other.
        fine_tuning: the recipe; its `temperature` means nothing here.
    """

    layers: int = 3
    vectors: float = 1.0
    relations: float = 1.0
    fine_tuning: FineTuningConfig = FineTuningConfig()

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"`layers`={self.layers}; use 1 or more.")
        for name in ("vectors", "relations"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 0 or more.")
        if not self.vectors + self.relations:
            raise ValueError("`vectors` and `relations` are 0: there is nothing to learn.")
        if self.fine_tuning.method == "prefix":
            raise ValueError(
                "`method`='prefix' adds values that the teacher hasn't. Use another, as 'all'."
            )


def small_bert(
    teacher: BertEncoder,
    texts: Sequence[str],
    config: SmallBertConfig = SmallBertConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
) -> BertEncoder:
    """An encoder with fewer layers than `teacher`, whose vectors of texts are like its own.

    Args:
        teacher: a checkpoint as it is, or fine-tuned by "all" or LoRA; it stays as it is.
        texts: that are read; no labels are needed.
        config: shape, losses and recipe.
        folder: for checkpoints; the same call goes on after a kill, and is done at once after the
            end.
        progress: whether to show a bar.

    Returns:
        A new encoder with the same tokenizer and cache, and encodings and a curve of its own.

    Raises:
        ValueError: without texts; if the teacher has fewer layers, or adapters or a prefix; or if
            `folder` holds another run.
        TypeError: for a text that is no string.

    Sources: Sanh et al., "DistilBERT, a distilled version of BERT", 2019 (layers that are copied,
    the cosine); Wang et al., "MiniLM", NeurIPS 2020 (value relations).
    """
    check_strings(texts)
    known = sorted(set(texts))
    if not known:
        raise ValueError("There are no texts to learn from. Give those of the catalogue.")
    whole = teacher.checkpoint
    if config.layers > whole.layers:
        raise ValueError(f"`layers`={config.layers}, but {whole.name} has {whole.layers}.")
    kept = np.linspace(0, whole.layers - 1, config.layers).round().astype(int).tolist()
    begun = whole.with_layers(kept)
    recipe = config.fine_tuning
    ids, mask = teacher.tokens(known)
    table = tf.constant(ids), tf.constant(mask)
    student = begun.model(recipe.mixed_precision, recipe.dropout)
    step = tf.Variable(0, dtype=tf.int64)
    seed_dropout(student, recipe.seed, step)
    weights = tuned_weights(student, recipe.method, recipe.size, recipe.seed)

    def loss(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        longest = tf.reduce_max(tf.reduce_sum(tf.gather(table[1], batch["texts"]), axis=1))
        read, counted = (tf.gather(part[:, :longest], batch["texts"]) for part in table)
        said = tuple(map(tf.stop_gradient, _read(teacher.model, read, counted)))
        own = _read(student, read, counted, training=True)
        tokens = counted[:, None, :] > 0
        return config.vectors * tf.reduce_mean(
            cosine(own[0], said[0])
        ) + config.relations * value_relations(own[1], said[1], tokens)

    def batches(step: int) -> list[dict[str, np.ndarray]]:
        return [{"texts": rows} for rows in batches_over(step, len(known), recipe)]

    shape = {k: v for k, v in dataclasses.asdict(config).items() if k != "fine_tuning"}
    curve = fit(
        weights,
        loss,
        batches,
        steps_over(len(known), recipe),
        recipe,
        step,
        folder,
        {
            **{f"small_{name}": value for name, value in shape.items()},
            "checkpoint": whole.identity,
            "max_tokens": teacher.max_tokens,
            "texts": checksum_of([ids]),
        },
        progress,
    )
    learned = begun.tuned(student, weights, recipe.method, recipe.size)
    found = BertEncoder(learned, teacher.max_tokens, teacher.cache_folder)
    found.curve = curve
    return found


def _read(
    model: Any, ids: tf.Tensor, mask: tf.Tensor, training: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Vectors of texts, float32 [n, d], and the last values, float32 [n, heads, T, d / heads]."""
    found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, training=training)
    layer, heads = last_values(model)
    values = layer(found.hidden_states[-2])  # what the last layer reads
    shape = tf.shape(values)
    values = tf.reshape(values, [shape[0], shape[1], heads, values.shape[-1] // heads])
    values = tf.cast(tf.transpose(values, [0, 2, 1, 3]), tf.float32)
    return pooled(found.last_hidden_state, mask), values
