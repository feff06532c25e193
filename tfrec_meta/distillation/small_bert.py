"""Distils a BERT into a smaller one: some of its layers, trained to reproduce its vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_meta.checks import FiniteNonNegativeFloat, PositiveInt, check_fields
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
from tfrec_meta.errors import ParameterError
from tfrec_meta.models.losses.distillation_losses import cosine, value_relations


@dataclasses.dataclass(frozen=True)
class SmallBertConfig:
    """Shape and losses of the student.

    Args:
        layers: number of layers. They are copied from evenly spaced layers of the teacher,
            including the first and the last; 6 of 12 are those of DistilBERT.
        vectors: weight of 1 - cosine between the text vectors of student and teacher.
        relations: weight of the loss on MiniLM's value relations: scaled dot products between the
            values of all tokens in the last layer.
        fine_tuning: the training recipe; its `temperature` is not used.
    """

    layers: PositiveInt = 3
    vectors: FiniteNonNegativeFloat = 1.0
    relations: FiniteNonNegativeFloat = 1.0
    fine_tuning: FineTuningConfig = FineTuningConfig()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.vectors + self.relations:
            raise ParameterError(
                "`vectors` and `relations` are both 0; use at least one above 0.",
                "vectors",
                "relations",
            )
        if self.fine_tuning.method == "prefix":
            raise ParameterError(
                "`method`='prefix' adds values that the teacher does not have; use another method, "
                "such as 'all'.",
                "method",
            )


def small_bert(
    teacher: BertEncoder,
    texts: Sequence[str],
    config: SmallBertConfig = SmallBertConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
) -> BertEncoder:
    """Trains an encoder with fewer layers than the teacher to produce similar text vectors.

    Args:
        teacher: an encoder of a plain checkpoint, or of one fine-tuned by "all" or LoRA. It is not
            changed.
        texts: training texts; no labels are needed.
        config: shape, losses and recipe.
        folder: for checkpoints. The same call resumes an interrupted training and returns the
            result of a finished one.
        progress: whether to show a progress bar.

    Returns:
        A new encoder with the same tokenizer and cache folder, and with its own vectors and curve.

    Raises:
        ValueError: if there are no texts; if the teacher has fewer layers, adapters or a prefix; or
            if `folder` contains another run.
        TypeError: if a text is not a string.

    Sources: Sanh et al., "DistilBERT, a distilled version of BERT", 2019 (copied layers, cosine);
    Wang et al., "MiniLM", NeurIPS 2020 (value relations).
    """
    check_strings(texts)
    distinct = sorted(set(texts))
    if not distinct:
        raise ParameterError("`texts` is empty; use those of the catalogue.", "texts")
    full = teacher.checkpoint
    if config.layers > full.layers:
        raise ParameterError(
            f"`layers`={config.layers}; use at most {full.layers}, the layers of {full.name}.",
            "layers",
        )
    layers = np.linspace(0, full.layers - 1, config.layers).round().astype(int).tolist()
    initial = full.with_layers(layers)
    recipe = config.fine_tuning
    ids, mask = teacher.tokens(distinct)
    table = tf.constant(ids), tf.constant(mask)
    student = initial.model(recipe.mixed_precision, recipe.dropout)
    step = tf.Variable(0, dtype=tf.int64)
    seed_dropout(student, recipe.seed, step)
    weights = tuned_weights(student, recipe.method, recipe.size, recipe.seed)

    def loss(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        longest = tf.reduce_max(tf.reduce_sum(tf.gather(table[1], batch["texts"]), axis=1))
        tokens, mask = (tf.gather(part[:, :longest], batch["texts"]) for part in table)
        target = tuple(map(tf.stop_gradient, _outputs(teacher.model, tokens, mask)))
        output = _outputs(student, tokens, mask, training=True)
        present = mask[:, None, :] > 0
        return config.vectors * tf.reduce_mean(
            cosine(output[0], target[0])
        ) + config.relations * value_relations(output[1], target[1], present)

    def batches(step: int) -> list[dict[str, np.ndarray]]:
        return [{"texts": rows} for rows in batches_over(step, len(distinct), recipe)]

    shape = {k: v for k, v in dataclasses.asdict(config).items() if k != "fine_tuning"}
    curve = fit(
        weights,
        loss,
        batches,
        steps_over(len(distinct), recipe),
        recipe,
        step,
        folder,
        {
            **{f"small_{name}": value for name, value in shape.items()},
            "checkpoint": full.identity,
            "max_tokens": teacher.max_tokens,
            "texts": checksum_of([ids]),
        },
        progress,
    )
    learned = initial.tuned(student, weights, recipe.method, recipe.size)
    found = BertEncoder(learned, teacher.max_tokens, teacher.cache_folder)
    found.curve = curve
    return found


def _outputs(
    model: Any, ids: tf.Tensor, mask: tf.Tensor, training: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns text vectors float32 [n, d] and last values float32 [n, heads, T, d / heads]."""
    found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, training=training)
    layer, heads = last_values(model)
    values = layer(found.hidden_states[-2])  # the input of the last layer
    shape = tf.shape(values)
    values = tf.reshape(values, [shape[0], shape[1], heads, values.shape[-1] // heads])
    values = tf.cast(tf.transpose(values, [0, 2, 1, 3]), tf.float32)
    return pooled(found.last_hidden_state, mask), values
