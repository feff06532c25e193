"""The training loop of fine-tuning a BERT: steps, gradient accumulation, checkpoints, resuming."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrec_meta.checks import (
    FiniteNonNegativeFloat,
    FinitePositiveFloat,
    PositiveInt,
    Seed,
    check_fields,
    share,
    whole_number,
)
from tfrec_meta.content.parameter_efficient import Method
from tfrec_meta.io.damage import read_json
from tfrec_meta.io.files import write_text
from tfrec_meta.keras import tf_keras
from tfrec_meta.training.checkpoint_folder import CheckpointFolder

Batch = Mapping[str, np.ndarray]
_AtLeastOne = Annotated[int, whole_number(1)]


@dataclasses.dataclass(frozen=True)
class FineTuningConfig:
    """The recipe of fine-tuning.

    Args:
        method: the weights to train: "all", "lora", "lora_everywhere", "adapters" or "prefix"; see
            `tuned_weights`.
        size: the rank, the width of the bottleneck, or the rows of the prefix.
        epochs: passes over the data.
        batch_size: users of a text two-tower, events of a cross-encoder, texts of a small BERT.
        max_steps: largest number of steps; None for no limit. The learning rate reaches 0 at the
            last step.
        accumulation: number of batches whose gradients make one step.
        learning_rate: the peak. It rises linearly over the first tenth of the steps and then falls
            to 0 along a cosine. Methods with few weights need higher values, such as 1e-3.
        weight_decay: decoupled weight decay, multiplied by the learning rate; not applied to biases
            and normalisation.
        dropout: rate of the BERT's hidden layers and attention, in [0, 1).
        temperature: divides the cosines of a text two-tower.
        mixed_precision: whether the BERT computes in bfloat16 during training.
        checkpoint_every: steps between checkpoints.
        seed: seed of batches, dropout and initial values.
    """

    method: Method = "all"
    size: _AtLeastOne = 8
    epochs: _AtLeastOne = 3
    batch_size: _AtLeastOne = 32
    max_steps: PositiveInt | None = None
    accumulation: _AtLeastOne = 1
    learning_rate: FinitePositiveFloat = 5e-5
    weight_decay: FiniteNonNegativeFloat = 0.01
    dropout: Annotated[float, share()] = 0.1
    temperature: FinitePositiveFloat = 0.1
    mixed_precision: bool = False
    checkpoint_every: _AtLeastOne = 100
    seed: Seed = 42

    def __post_init__(self) -> None:
        check_fields(self)


def steps_over(rows: int, config: FineTuningConfig) -> int:
    """Returns the number of steps: all epochs concatenated, at most `max_steps`.

    Args:
        rows: rows of an epoch.
        config: the recipe.
    """
    steps = -(-config.epochs * rows // (config.batch_size * config.accumulation))
    return steps if config.max_steps is None else min(steps, config.max_steps)


def batches_over(step: int, rows: int, config: FineTuningConfig) -> list[np.ndarray]:
    """Returns the rows of each batch of a step, int64; the result depends on the arguments alone.

    Args:
        step: number of the step, from 0.
        rows: rows of an epoch; each epoch has its own random order.
        config: the recipe.
    """
    size = config.batch_size
    first = step * size * config.accumulation
    stop = min(first + size * config.accumulation, config.epochs * rows)
    order = {
        epoch: np.random.default_rng([config.seed, epoch]).permutation(rows)
        for epoch in range(first // rows, (stop - 1) // rows + 1)
    }
    taken = np.array([order[index // rows][index % rows] for index in range(first, stop)])
    return [taken[start : start + size] for start in range(0, len(taken), size)]


def fit(
    weights: Sequence[tf.Variable],
    loss: Callable[[Mapping[str, tf.Tensor]], tf.Tensor],
    batches: Callable[[int], Sequence[Batch]],
    steps: int,
    config: FineTuningConfig,
    step: tf.Variable,
    folder: Path | str | None = None,
    run: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Trains `weights` in place. After a kill, the same call ends with the same weights.

    Args:
        weights: float32.
        loss: loss of a batch, float32 scalar; traced once, without static shapes.
        batches: function of the step, from 0, that returns its `config.accumulation` batches. It
            must always return the same ones.
        steps: number of steps.
        config: the recipe.
        step: int64 scalar, number of batches so far, which seeds the dropout.
        folder: of the checkpoints; without one, none are written.
        run: plain values that identify the run, besides the config.
        progress: whether to show a progress bar.

    Returns:
        One dict per epoch: epoch, and the mean loss.

    Raises:
        ValueError: if `folder` contains another run, or the loss is not finite.
    """
    optimizer = _optimizer(config, steps, weights)
    optimizer.build(weights)
    record = tf.Variable(json.dumps([]), dtype=tf.string)
    done = tf.Variable(0, dtype=tf.int64)
    checkpoints = None
    if folder is not None:
        folder = Path(folder)
        _check_same_run(folder, {**dataclasses.asdict(config), **(run or {}), "steps": steps})
        kept = tf.train.Checkpoint(
            weights=list(weights), optimizer=optimizer, record=record, done=done, step=step
        )
        checkpoints = CheckpointFolder(kept, folder / "checkpoints", "step")
        last = checkpoints.latest()
        if last is not None:
            checkpoints.read(
                last, f"Remove {checkpoints.path(last)} to resume from the step before"
            )

    def differentiated(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            value = loss(batch)
        found = tape.gradient(value, weights, unconnected_gradients="zero")
        step.assign_add(1)
        return value, [tf.convert_to_tensor(gradient) for gradient in found]

    @tf.function
    def apply(gradients: list[tf.Tensor]) -> None:
        optimizer.apply_gradients(zip(gradients, weights, strict=True))

    # Without static shapes: a graph for the shapes of the first batch would round differently, and
    # a resumed run has another first batch.
    def graph_for(batch: Batch) -> Callable[..., tuple[tf.Tensor, list[tf.Tensor]]]:
        shapes = {name: tf.TensorSpec([None] * v.ndim, v.dtype) for name, v in batch.items()}
        return tf.function(differentiated, input_signature=[shapes])

    graph: Callable[..., tuple[tf.Tensor, list[tf.Tensor]]] | None = None
    losses = json.loads(record.numpy().decode())
    first = int(done.numpy())
    shown = None if progress else True
    with tqdm(total=steps, initial=first, desc="BERT", unit="step", disable=shown) as bar:
        for number in range(first, steps):
            values, total = [], None
            for batch in batches(number):
                given = {name: tf.constant(value) for name, value in batch.items()}
                graph = graph or graph_for(batch)
                value, gradients = graph(given)
                values.append(float(value))
                total = (
                    gradients
                    if total is None
                    else [a + b for a, b in zip(total, gradients, strict=True)]
                )
            mean = float(np.mean(values))
            if not math.isfinite(mean) or total is None:
                raise ValueError(
                    f"The loss is {mean} at step {number + 1}. Lower `learning_rate` "
                    f"({config.learning_rate:g})."
                )
            apply([gradient / len(values) for gradient in total])
            losses.append(mean)
            bar.update()
            bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            if checkpoints and ((number + 1) % config.checkpoint_every == 0 or number + 1 == steps):
                done.assign(number + 1)
                record.assign(json.dumps(losses))
                before = checkpoints.latest() or 0
                checkpoints.write(number + 1)
                checkpoints.keep(number + 1, before)
    parts = np.array_split(np.array(losses), min(config.epochs, max(len(losses), 1)))
    return [{"epoch": e, "loss": float(part.mean())} for e, part in enumerate(parts) if len(part)]


class SeededDropout(tf_keras.layers.Layer):
    """Dropout that depends on the step number, so that a resumed run draws the same values.

    Args:
        rate: share of values that are set to 0.
        seed: seed of this layer.
        step: int64 scalar, number of batches so far.
        dtype: dtype or policy of the layer.
    """

    def __init__(self, rate: float, seed: int, step: tf.Variable, dtype: Any = None):
        super().__init__(dtype=dtype)
        self.rate, self.seed = rate, seed
        self._now = step.read_value  # not the variable, which Keras would track as a weight

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Applies dropout in training; the shape does not change."""
        if not training or not self.rate:
            return inputs
        draw = tf.stack([tf.constant(self.seed, tf.int64), self._now()])
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, draw)


def seed_dropout(model: Any, seed: int, step: tf.Variable) -> None:
    """Replaces each dropout layer of a model by a `SeededDropout`."""
    layer_seed = seed * 10_000
    for module in list(model.submodules):
        for name, value in list(vars(module).items()):
            if isinstance(value, tf_keras.layers.Dropout):
                layer_seed, policy = layer_seed + 1, value.dtype_policy
                setattr(module, name, SeededDropout(value.rate, layer_seed, step, policy))


def checksum_of(arrays: Sequence[np.ndarray]) -> str:
    """Returns the SHA-256 of dtypes, shapes and values, hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _optimizer(
    config: FineTuningConfig, steps: int, weights: Sequence[tf.Variable]
) -> tf_keras.optimizers.Optimizer:
    rise = max(1, steps // 10)
    rate = tf_keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - rise), warmup_target=config.learning_rate, warmup_steps=rise
    )
    # Not 0.999, because there are far fewer than thousands of steps.
    optimizer = tf_keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, beta_2=0.98, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_list=[w for w in weights if w.shape.rank < 2])
    return optimizer


def _check_same_run(folder: Path, run: Mapping[str, Any]) -> None:
    path = folder / "run.json"
    text = json.dumps(run, indent=1, sort_keys=True)
    if not path.is_file():
        write_text(path, text)
        return
    earlier = read_json(path, f"Use another folder, or remove {folder} to start again")
    now = json.loads(text)
    differing = sorted(k for k in {*earlier, *now} if earlier.get(k) != now.get(k))
    if differing:
        changes = [f"`{k}` was {earlier.get(k)!r} and is {now.get(k)!r}" for k in differing]
        raise ValueError(
            f"{folder} contains a run with another recipe, checkpoint or data: "
            f"{'; '.join(changes)}. Use another folder, or remove this one."
        )
