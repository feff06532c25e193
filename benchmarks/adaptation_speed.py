"""The cost of adapting a served model, and the gain of batching tasks in meta-training.

    python -m benchmarks.adaptation_speed

1. `adapt_ms_per_user`: the exported model's signature `adapt`, from raw ids to ten recommendations,
   in batches of 256 new users with ten events each (and of 32, and of one), on all cores, as in a
   server's session; medians.
2. `training_speedup`: the time of a step of MAML (second order, three inner steps, the same
   network, tasks and labels) with a loop over the tasks in `tf.function`, each with its own
   gradient tape and summed gradients, divided by that with fast weights, one row per task. The
   benchmark checks that both give the same gradients. Interleaved rounds in one process, medians,
   without tracing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.metalearning import (
    LEARNERS,
    EpisodeConfig,
    Episodes,
    Examples,
    LearnerConfig,
    TaskNetwork,
    user_tasks,
)

BATCHES = (1, 32, 256)
EVENTS = 10
TASKS, HIDDEN, DIMENSION = 32, (64, 64), 32
Step = Callable[[Examples, Examples], tuple[tf.Tensor, list[tf.Tensor]]]


def milliseconds(run: Callable[[], Any], rounds: int) -> list[float]:
    """What each of some runs took."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        took.append(1e3 * (time.perf_counter() - began))
    return took


def adapting(data: tm.Interactions, seed: int, rounds: int) -> dict[str, float]:
    """Milliseconds a user of the exported signature, by batch size."""
    strategy = tm.Strategy("meta_learned", training=tm.TrainingConfig(seed=seed))
    model = tm.train(data, strategy, progress=False)
    rng = np.random.default_rng(seed)
    config, found = tm.ExportConfig(), {}
    with tempfile.TemporaryDirectory() as folder:
        served = tf.saved_model.load(str(tm.export(model, folder, config=config)))
        adapt = served.signatures["adapt"]
        for batch in BATCHES:
            ids = np.full([batch, config.support_width], "", object)
            for row in ids:
                row[:EVENTS] = rng.choice(data.item_ids, EVENTS, replace=False)
            asked = {
                "item_id": tf.constant(ids),
                "label": tf.ones([batch, config.support_width]),
                "exclude": tf.fill([batch, config.exclude_width], ""),
                "k": tf.fill([batch], 10),
            }

            def run(asked: dict[str, tf.Tensor] = asked) -> None:
                adapt(**asked)["score"].numpy()

            milliseconds(run, 2)  # tracing, and what is set up once
            found[f"adapt_ms_per_user_{batch}"] = (
                float(np.median(milliseconds(run, rounds))) / batch
            )
    found["adapt_ms_per_user"] = found[f"adapt_ms_per_user_{max(BATCHES)}"]
    return found


def batched(learner: Any) -> Step:
    """A step of ours."""
    return tf.function(learner.meta_gradients)


def looped(learner: Any) -> Step:
    """The same over one task after another."""
    variables = learner.trainable_variables

    @tf.function
    def step(support: Examples, query: Examples) -> tuple[tf.Tensor, list[tf.Tensor]]:
        tasks = tf.shape(support.labels)[0]
        total = tf.zeros([])
        sums = [tf.zeros_like(variable) for variable in variables]
        for task in tf.range(tasks):
            one, asked = (
                tf.nest.map_structure(lambda part, at=task: part[at : at + 1], examples)
                for examples in (support, query)
            )
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(learner.query_losses(one, asked))
            gradients = tape.gradient(loss, variables)
            total += loss
            sums = [s + tf.convert_to_tensor(g) for s, g in zip(sums, gradients, strict=True)]
        count = tf.cast(tasks, tf.float32)
        return total / count, [s / count for s in sums]

    return step


def meta_training(data: tm.Interactions, seed: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a step of MAML on users' ratings, batched over tasks and in a loop."""
    spec = tm.FeatureSpec.infer(data).fit(data)
    tasks = user_tasks(data, spec, label="value").at_least(2 * EVENTS)
    config = EpisodeConfig((EVENTS, EVENTS), query=EVENTS, tasks_per_batch=TASKS, seed=seed)
    table = tf.Variable(
        tf.random.stateless_normal([len(spec.items), DIMENSION], [seed, 0], stddev=0.1)
    )
    network = TaskNetwork(DIMENSION, HIDDEN, lambda rows: tf.gather(table, rows), seed=seed)
    learner = LEARNERS["maml"](network, LearnerConfig(inner_steps=3))
    batch = next(Episodes(tasks, config).epoch())
    sets = [
        Examples(
            tf.constant(batch[f"{part}_item"]),
            tf.constant(batch[f"{part}_label"] - 3.0),
            tf.constant(batch[f"{part}_mask"]),
        )
        for part in ("support", "query")
    ]
    steps = {"batched": batched(learner), "looped": looped(learner)}
    answers = [step(*sets) for step in steps.values()]
    for one, other in zip(*(gradients for _, gradients in answers), strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(one), tf.convert_to_tensor(other), rtol=1e-3, atol=1e-5
        )
    took: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            took[name] += milliseconds(lambda step=step: step(*sets)[0].numpy(), 1)
    medians = {name: float(np.median(values)) for name, values in took.items()}
    return {
        "tasks": len(batch["task"]),
        "batched_step_ms": medians["batched"],
        "looped_step_ms": medians["looped"],
        "training_speedup": medians["looped"] / medians["batched"],
    }


def main() -> None:
    """Measures both, prints the JSON object."""
    chosen = arguments.parse(__doc__)
    data = arguments.load(chosen.data)
    rounds = 3 if chosen.quick else 30
    found = adapting(data, chosen.seed, rounds) | meta_training(data, chosen.seed, rounds)
    arguments.finish(found, chosen)


if __name__ == "__main__":
    main()
