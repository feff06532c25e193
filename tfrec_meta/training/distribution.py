"""Training on several devices and machines with `tf.distribute`.

Every worker makes the same batches and takes its part of each. A step is therefore the same as in
one process with the same batch, for any number of replicas.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import tensorflow as tf

from tfrec_meta.errors import ParameterError
from tfrec_meta.keras import tf_keras

Distribute = Literal["none", "mirrored", "multi_worker", "parameter_server"]


def distribution_strategy(name: Distribute) -> tf.distribute.Strategy:
    """Returns the strategy in whose scope a model has to be made.

    "multi_worker" and "parameter_server" read the cluster and the role of this process from the
    environment variable TF_CONFIG, as usual in TensorFlow. They have to be set up before TensorFlow
    computes anything. With "parameter_server", the call never returns in the process of a worker or
    a parameter server.

    Args:
        name: "none" returns the strategy in scope, TensorFlow's default. "mirrored" uses all GPUs
            of this machine, or its logical CPUs if it has no GPU. "multi_worker" and
            "parameter_server" use several machines.

    Raises:
        ValueError: if TF_CONFIG is needed but is missing, or is no JSON object with a cluster.
    """
    return tf.distribute.get_strategy() if name == "none" else _make_strategy(name)


@functools.cache  # a process can join a cluster only once
def _make_strategy(name: str) -> tf.distribute.Strategy:
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
    """Returns whether this process writes checkpoints and logs: one of several does."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "", "chief"):
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_type == "worker" and resolver.task_id == 0 and not has_chief


def distribute_batches(
    make_batches: Callable[[], tf.data.Dataset],
    strategy: tf.distribute.Strategy,
    rows: int,
    axis: int = 0,
) -> Any:
    """Returns the input of Keras's `fit`, in which each replica gets its part of each batch.

    Args:
        make_batches: makes the batches, dicts of tensors; called in the process that reads them.
        strategy: the strategy in whose scope the model was made.
        rows: rows per batch.
        axis: the axis of the rows in each tensor.

    Raises:
        ValueError: if the rows cannot be divided evenly among the replicas.
    """
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return tf_keras.utils.experimental.DatasetCreator(
            # Workers train asynchronously, each on its own batches.
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
        raise ParameterError(
            f"A batch of {rows} rows cannot be divided evenly among {replicas} replicas. Make "
            "`batch_size` a multiple of their number.",
            "batch_size",
        )

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        per_worker = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * per_worker

        def parts(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {
                name: tf.stack(tf.split(value, replicas, axis)[first : first + per_worker])
                for name, value in batch.items()
            }

        return make_batches().map(parts).unbatch()

    return strategy.distribute_datasets_from_function(of_worker)


def average_over_workers(
    strategy: tf.distribute.Strategy, metrics: Mapping[str, float]
) -> dict[str, float]:
    """Returns the mean of the workers' metrics; in one process, the metrics unchanged.

    All workers have the same model, but machines may round differently. With the mean, all make the
    same decisions.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return dict(metrics)

    @tf.function  # collectives outside a graph are slow, and TensorFlow warns at each call
    def mean(own: tf.Tensor) -> tf.Tensor:
        of_replicas = strategy.run(tf.identity, [own])
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, of_replicas, axis=None)

    result = mean(tf.constant(list(metrics.values()), tf.float64)).numpy()
    return dict(zip(metrics, result.tolist(), strict=True))


def _check_cluster(name: str) -> None:
    given = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(given)["cluster"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, dict):
        raise ParameterError(
            f"`distribute`={name!r} reads the cluster from TF_CONFIG, which is {given!r}. Set it "
            'in each process, for example {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}.',
            "distribute",
        )
