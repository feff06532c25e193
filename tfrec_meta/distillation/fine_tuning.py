"""How a BERT is fine-tuned, whatever the loss: steps, accumulation, checkpoints and resuming."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrec_meta.content.parameter_efficient import Method
from tfrec_meta.io.files import write_text
from tfrec_meta.keras import tf_keras

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FineTuningConfig:
    """The recipe.

    Args:
        method: what is trained: "all", "lora", "lora_everywhere", "adapters" or "prefix"; see
            `tuned_weights`.
        size: the rank, the bottleneck's width, or the rows of the prefix.
        epochs: passes over the events.
        batch_size: users of a text two-tower, events of a cross-encoder, texts of a small BERT.
        max_steps: that training ends after, if the epochs have not; None for no other end. The
            learning rate falls to 0 by whichever is first.
        accumulation: batches whose gradients make one step.
        learning_rate: at its peak; it rises over the first tenth of the steps and falls along a
            cosine to 0. Few weights take higher ones than all: 1e-3.
        weight_decay: decoupled, times the learning rate; biases and normalisation have none.
        dropout: of the BERT's layers and attention, in [0, 1).
        temperature: divides the cosines of a text two-tower.
        mixed_precision: whether the BERT computes in bfloat16 while it is trained.
        checkpoint_every: steps.
        seed: of batches, dropout and initial values.
    """

    method: Method = "all"
    size: int = 8
    epochs: int = 3
    batch_size: int = 32
    max_steps: int | None = None
    accumulation: int = 1
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    dropout: float = 0.1
    temperature: float = 0.1
    mixed_precision: bool = False
    checkpoint_every: int = 100
    seed: int = 42

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"`method`={self.method!r}; use one of {get_args(Method)}.")
        least = {"size": 1, "epochs": 1, "batch_size": 1, "accumulation": 1}
        least |= {"checkpoint_every": 1, "seed": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < minimum:
                raise ValueError(f"`{name}`={value!r}; use a whole number, {minimum} or more.")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"`max_steps`={self.max_steps}; use 1 or more, or None.")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use a number above 0.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"`weight_decay`={self.weight_decay}; use 0 or more.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout`={self.dropout}; use a share in [0, 1).")


def steps_over(rows: int, config: FineTuningConfig) -> int:
    """Of all epochs in a row, without a break between them; `max_steps` at most."""
    steps = -(-config.epochs * rows // (config.batch_size * config.accumulation))
    return steps if config.max_steps is None else min(steps, config.max_steps)


def batches_over(step: int, rows: int, config: FineTuningConfig) -> list[np.ndarray]:
    """Which rows the batches of a step have, int64; alike whenever it is asked.

    Args:
        step: from 0.
        rows: of an epoch, each of which has an order of its own.
        config: the recipe.
    """
    size = config.batch_size
    first = step * size * config.accumulation
    stop = min(first + size * config.accumulation, config.epochs * rows)
    order = {
        epoch: np.random.default_rng([config.seed, epoch]).permutation(rows)
        for epoch in range(first // rows, (stop - 1) // rows + 1)
    }
    taken = np.array([order[place // rows][place % rows] for place in range(first, stop)])
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
    """Trains `weights` in place; after a kill, the same call ends with the same weights.

    Args:
        weights: float32.
        loss: of a batch, float32 scalar; traced once, without shapes.
        batches: step, from 0, to the `config.accumulation` batches of it; alike whenever asked.
        steps: in all.
        config: the recipe.
        step: int64 scalar, the batches that were differentiated: what dropout is drawn from.
        folder: where checkpoints live; none are kept without.
        run: plain values that tell one run from another, besides the config.
        progress: whether to show a bar, where there is a terminal.

    Returns:
        One dict an epoch: epoch, and the mean loss.

    Raises:
        ValueError: if `folder` holds another run, or the loss is no longer finite.
    """
    optimizer = _optimizer(config, steps, weights)
    optimizer.build(weights)
    record = tf.Variable(json.dumps([]), dtype=tf.string)
    done = tf.Variable(0, dtype=tf.int64)
    manager = None
    if folder is not None:
        folder = Path(folder)
        _check_same_run(folder, {**dataclasses.asdict(config), **(run or {}), "steps": steps})
        kept = tf.train.Checkpoint(
            weights=list(weights), optimizer=optimizer, record=record, done=done, step=step
        )
        manager = tf.train.CheckpointManager(kept, str(folder / "checkpoints"), 2)
        if manager.latest_checkpoint:
            kept.restore(manager.latest_checkpoint).assert_existing_objects_matched()

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

    # Of no known shapes: a graph of the first batch's would round otherwise than that of all, and
    # a run that goes on has another first batch.
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
            if manager and ((number + 1) % config.checkpoint_every == 0 or number + 1 == steps):
                done.assign(number + 1)
                record.assign(json.dumps(losses))
                manager.save()
    parts = np.array_split(np.array(losses), min(config.epochs, max(len(losses), 1)))
    return [{"epoch": e, "loss": float(part.mean())} for e, part in enumerate(parts) if len(part)]


class SeededDropout(tf_keras.layers.Layer):
    """Dropout that is drawn from the step's number, so that a run that goes on draws alike.

    Args:
        rate: share that is left out.
        seed: of this layer.
        step: int64 scalar.
        dtype: or a policy, as layers have it.
    """

    def __init__(self, rate: float, seed: int, step: tf.Variable, dtype: Any = None):
        super().__init__(dtype=dtype)
        self.rate, self.seed = rate, seed
        self._now = step.read_value  # not the variable, of which Keras would make a weight

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Like the inputs."""
        if not training or not self.rate:
            return inputs
        draw = tf.stack([tf.constant(self.seed, tf.int64), self._now()])
        return tf.nn.experimental.stateless_dropout(inputs, self.rate, draw)


def seed_dropout(model: Any, seed: int, step: tf.Variable) -> None:
    """Puts a `SeededDropout` in place of each dropout of a model."""
    place = seed * 10_000
    for module in list(model.submodules):
        for name, value in list(vars(module).items()):
            if isinstance(value, tf_keras.layers.Dropout):
                place, policy = place + 1, value.dtype_policy
                setattr(module, name, SeededDropout(value.rate, place, step, policy))


def checksum_of(arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 of the values, hexadecimal."""
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
    # Not .999: thousands of steps there are not.
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
    try:
        earlier, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        differing = sorted(k for k in {*earlier, *now} if earlier.get(k) != now.get(k))
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}). Use another folder.") from error
    if differing:
        told = [f"`{k}` was {earlier.get(k)!r} and is {now.get(k)!r}" for k in differing]
        raise ValueError(
            f"{folder} holds a run of another recipe, checkpoint or data: {'; '.join(told)}. Use "
            "another folder, or remove this one."
        )
