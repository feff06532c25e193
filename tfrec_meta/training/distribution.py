"""Several devices and machines by `tf.distribute`: the strategy, and who does what of a step.

Every worker makes the same batches and takes its part of each, so that a step is that of one
process with the same batch, whatever the number of replicas.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import tensorflow as tf

from tfrec_meta.keras import tf_keras

Distribute = Literal["none", "mirrored", "multi_worker", "parameter_server"]


def distribution_strategy(name: Distribute) -> tf.distribute.Strategy:
    """The strategy in whose scope a model is to be made.

    The two of many machines read the cluster, and who this process is, from TF_CONFIG, as
    TensorFlow always does, and have to begin before TensorFlow has computed anything. With
    "parameter_server" this never returns in a worker's or a parameter server's process.

    Args:
        name: "none" for the one that is in scope, TensorFlow's default; "mirrored" for all GPUs of
            this machine, or its logical CPUs without any; "multi_worker"; "parameter_server".

    Raises:
        ValueError: if TF_CONFIG is needed and is missing, or no JSON object with a cluster.
    """
    return tf.distribute.get_strategy() if name == "none" else _made(name)


@functools.cache  # a process joins a cluster once
def _made(name: str) -> tf.distribute.Strategy:
    if name == "mirrored":
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in found])
    _check_cluster(name)
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if resolver.task_type in ("worker", "ps"):
        server = tf.distribute.Server(
            resolver.cluster_spec(),
            job_name=resolver.task_type,
            task_index=resolver.task_id,
            protocol="grpc",
        )
        server.join()
    return tf.distribute.ParameterServerStrategy(resolver)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes what users read."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "", "chief"):
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "worker" and resolver.task_id == 0 and not has_chief


def shared(
    make_batches: Callable[[], tf.data.Dataset],
    strategy: tf.distribute.Strategy,
    rows: int,
    axis: int = 0,
) -> Any:
    """What `fit` takes: each replica's part of each batch.

    Args:
        make_batches: makes the batches, dicts of tensors; called where they are needed.
        strategy: what the model was made in.
        rows: of a batch.
        axis: of the rows, in each tensor.

    Raises:
        ValueError: if the rows can't be shared evenly.
    """
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return tf_keras.utils.experimental.DatasetCreator(
            # Workers go on at their own pace, each through batches of its own.
            lambda context: (
                make_batches()
                .shard(context.num_input_pipelines, context.input_pipeline_id)
                .repeat()
            )
        )
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return make_batches()
    if rows % replicas:
        raise ValueError(
            f"A batch of {rows} rows can't be shared evenly by {replicas} replicas. Make "
            "`batch_size` a multiple of their number."
        )

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def parts(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {
                name: tf.stack(tf.split(value, replicas, axis)[first : first + here])
                for name, value in batch.items()
            }

        return make_batches().map(parts).unbatch()

    return strategy.distribute_datasets_from_function(of_worker)


def agreed(strategy: tf.distribute.Strategy, figures: Mapping[str, float]) -> dict[str, float]:
    """The mean of what the workers measured, so that all decide alike; in one process, the same.

    Models are the same everywhere, but machines may round in other ways.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return dict(figures)

    @tf.function  # collectives outside of a graph are slow, and TensorFlow says so each time
    def mean(own: tf.Tensor) -> tf.Tensor:
        of_replicas = strategy.run(tf.identity, [own])
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, of_replicas, axis=None)

    result = mean(tf.constant(list(figures.values()), tf.float64)).numpy()
    return dict(zip(figures, result.tolist(), strict=True))


def _check_cluster(name: str) -> None:
    given = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(given)["cluster"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"`distribute`={name!r} reads the cluster from TF_CONFIG, which is {given!r}. Set it "
            'in each process, as {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            '"worker", "index": 0}}.'
        )
