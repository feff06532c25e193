"""The time of a training step as a function of the vocabulary size.

The time of a step with a table of 10,000,000 rows divided by that with 10,000 rows, with dimension
32 and batches of 4096 ids drawn uniformly from all rows, for our row-wise Adagrad, element-wise
Adagrad and lazy Adam, and for tf_keras's Adagrad and Adam. The target for ours is at most 1.3.

The model is minimal, so that nothing hides the table: an embedding, one dense unit, binary
cross-entropy; forward pass, backward pass and update in one `tf.function`. The `mlp_` figures
measure a model of ordinary size: the embedding passes through the layers of TFRS's ranking tutorial
(256 and 64 units).

A ratio includes more than the optimizer: 4096 random rows of 10,000,000 are in no cache, while all
of 10,000 rows are. `gradient_ratio` is the same step without any update, so that it shows the cost
of the lookup. With fewer rows ids repeat more often: a batch has 3,360 distinct rows with 10,000
rows, and 4,095 with 10,000,000.

Both sizes of one optimizer are in memory together and alternate in blocks of steps, so that a slow
moment of the machine affects both, and each finds its caches as its own last step left them. Times
are medians of single steps; ids are prepared outside of them. The optimizers are measured one after
the other, because tf_keras's Adam needs about 8 GB.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from benchmarks.arguments import finish, parse
from tfrec_meta.keras import tf_keras
from tfrec_meta.training.optimizers import LazyAdagrad, LazyAdam, RowWiseAdagrad

DIMENSION = 32
BATCH = 4096
SMALL = 10_000
LARGE, QUICK_LARGE = 10_000_000, 1_000_000
BLOCK = 20

Make = Callable[[], tf_keras.optimizers.Optimizer]
Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

# Label, optimizer (none: no update), hidden layers.
CASES: dict[str, tuple[str, Make | None, tuple[int, ...]]] = {
    "gradient": ("loss and gradients, no update", None, ()),
    "adagrad": ("RowWiseAdagrad", lambda: RowWiseAdagrad(0.1), ()),
    "element_adagrad": ("LazyAdagrad", lambda: LazyAdagrad(0.1), ()),
    "adam": ("LazyAdam", lambda: LazyAdam(0.001), ()),
    "mlp_adagrad": ("RowWiseAdagrad, MLP", lambda: RowWiseAdagrad(0.1), (256, 64)),
    "mlp_adam": ("LazyAdam, MLP", lambda: LazyAdam(0.001), (256, 64)),
    "stock_adagrad": ("tf_keras Adagrad", lambda: tf_keras.optimizers.Adagrad(0.1), ()),
    "stock_adam": ("tf_keras Adam", lambda: tf_keras.optimizers.Adam(0.001), ()),
}


def make_step(rows: int, make: Make | None, hidden: Sequence[int]) -> Step:
    """A training step of a model with a table of `rows`; without an optimizer, no update."""
    embedding = tf_keras.layers.Embedding(rows, DIMENSION)
    dense = tf_keras.Sequential(
        [*(tf_keras.layers.Dense(units, "relu") for units in hidden), tf_keras.layers.Dense(1)]
    )
    dense(embedding(tf.constant([0])))
    variables = [*embedding.trainable_variables, *dense.trainable_variables]
    optimizer = make() if make else None
    if optimizer:
        optimizer.build(variables)

    @tf.function
    def step(ids: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = dense(embedding(ids))[:, 0]
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        gradients = tape.gradient(loss, variables)
        if not optimizer:
            # Returned, so that they are worked out.
            return loss, gradients[0].values, *gradients[1:]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


def timed(step: Step, rows: int, count: int, rng: np.random.Generator) -> list[float]:
    """Seconds of each of `count` steps."""
    batches = [
        (
            tf.constant(rng.integers(0, rows, BATCH), tf.int32),
            tf.constant(rng.integers(0, 2, BATCH), tf.float32),
        )
        for _ in range(count)
    ]
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        step(*batch)
        seconds.append(time.perf_counter() - start)
    return seconds


def measure(name: str, large: int, blocks: int, rng: np.random.Generator) -> tuple[float, float]:
    """Median seconds of a step with the small table, and with the large one."""
    # A step of the stock Adam goes through gigabytes.
    counts = {SMALL: BLOCK, large: 1 if name == "stock_adam" else BLOCK}
    _, make, hidden = CASES[name]
    steps = {rows: make_step(rows, make, hidden) for rows in counts}
    seconds: dict[int, list[float]] = {rows: [] for rows in counts}
    for rows, step in steps.items():  # traces, and TensorFlow's one copy of each variable
        timed(step, rows, 2, rng)
    for _ in range(blocks):
        for rows, step in steps.items():
            timed(step, rows, counts[rows] // 5, rng)  # back into the cache, what can be
            seconds[rows] += timed(step, rows, counts[rows], rng)
    del steps, step
    gc.collect()  # the next optimizer's tables need the memory
    return float(np.median(seconds[SMALL])), float(np.median(seconds[large]))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(__doc__ or "", argv)
    arguments.data = "synthetic"  # ids drawn uniformly
    large, blocks = (QUICK_LARGE, 3) if arguments.quick else (LARGE, 15)
    rng = np.random.default_rng(arguments.seed)
    tf_keras.utils.set_random_seed(arguments.seed)
    result: dict[str, float] = {"rows_small": SMALL, "rows_large": large}
    print(f"milliseconds a step, batch {BATCH}, dimension {DIMENSION}, medians")
    print(f"{'':<32}{f'{SMALL:,} rows':>16}{f'{large:,} rows':>18}{'ratio':>9}")
    for name, (label, _, _) in CASES.items():
        fewer = min(blocks, 5) if name == "stock_adam" else blocks
        small, big = measure(name, large, fewer, rng)
        print(f"{label:<32}{small * 1e3:>16.3f}{big * 1e3:>18.3f}{big / small:>9.2f}", flush=True)
        result[f"{name}_ratio"] = big / small
        result[f"{name}_milliseconds_small"] = small * 1e3
        result[f"{name}_milliseconds_large"] = big * 1e3
    finish(result, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
