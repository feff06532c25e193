"""The shared layers of multi-task models: a shared bottom, a mixture of experts, or progressive
layered extraction.

All map float32 [B, w] to one vector float32 [B, d] per task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import tensorflow as tf

from tfrec_meta.keras import tf_keras
from tfrec_meta.models.layers.towers import multilayer_perceptron

BottomName = Literal["shared", "mmoe", "ple"]


def create_bottom(
    name: str, tasks: Sequence[str], dim: int, hidden: Sequence[int], experts: int, layers: int
) -> Bottom:
    """Creates a bottom by name; "mmoe" and "ple" use `experts`, "ple" uses `layers`."""
    if name == "mmoe":
        return MixtureOfExperts(tasks, dim, hidden, experts)
    if name == "ple":
        return ProgressiveExtraction(tasks, dim, hidden, experts, layers)
    return SharedBottom(tasks, dim, hidden)


def mixed(experts: Sequence[tf.Tensor], gate: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the experts, float32 [B, d], weighted by the softmax of a gate.

    Args:
        experts: float32 [B, d] each.
        gate: float32 [B, experts], logits.
    """
    weight = tf.nn.softmax(gate)[:, :, None]
    return tf.reduce_sum(weight * tf.stack(experts, axis=1), axis=1)


class Bottom(tf_keras.layers.Layer, ABC):
    """The base class of all bottoms.

    Args:
        tasks: their names.
        dim: d, of the vector of each task.
        hidden: widths of the layers of an expert below its last one, at least one.
    """

    def __init__(self, tasks: Sequence[str], dim: int, hidden: Sequence[int]):
        super().__init__(name="bottom")
        self.tasks = list(tasks)
        self.dim = dim
        self.hidden = list(hidden)

    @property
    @abstractmethod
    def last_shared(self) -> list[tf.Variable]:
        """The kernels of the last layer that all tasks share, whose gradients GradNorm balances."""

    def _expert(self, name: str) -> tf_keras.Sequential:
        return multilayer_perceptron(self.hidden, self.dim, name)

    def _gate(self, name: str, experts: int) -> tf_keras.layers.Layer:
        return tf_keras.layers.Dense(experts, use_bias=False, name=f"gate_{name}")


class SharedBottom(Bottom):
    """One expert for all tasks (Caruana, "Multitask Learning", 1997)."""

    def __init__(self, tasks: Sequence[str], dim: int, hidden: Sequence[int]):
        super().__init__(tasks, dim, hidden)
        self.expert = self._expert("expert")

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict.fromkeys(self.tasks, self.expert(inputs))

    @property
    def last_shared(self) -> list[tf.Variable]:
        return [_last_kernel(self.expert)]


class MixtureOfExperts(Bottom):
    """Experts that all tasks share, and one gate per task.

    References:
        Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
        Mixture-of-Experts", KDD 2018.
    """

    def __init__(self, tasks: Sequence[str], dim: int, hidden: Sequence[int], experts: int):
        super().__init__(tasks, dim, hidden)
        self.experts = [self._expert(f"expert_{place}") for place in range(experts)]
        self.gates = [self._gate(task, experts) for task in self.tasks]

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = [expert(inputs) for expert in self.experts]
        gates = zip(self.tasks, self.gates, strict=True)
        return {task: mixed(found, gate(inputs)) for task, gate in gates}

    @property
    def last_shared(self) -> list[tf.Variable]:
        return [_last_kernel(expert) for expert in self.experts]


class ProgressiveExtraction(Bottom):
    """Layers of shared experts and of experts per task.

    The gate of a task mixes its own and the shared experts. Between layers, another gate mixes all
    experts into the input of the shared experts of the next layer.

    Args:
        experts: shared experts per layer, and experts per task and layer.
        layers: the number of layers.

    References:
        Tang et al., "Progressive Layered Extraction (PLE)", RecSys 2020.
    """

    def __init__(
        self, tasks: Sequence[str], dim: int, hidden: Sequence[int], experts: int, layers: int
    ):
        super().__init__(tasks, dim, hidden)
        self.experts, self.gates = {}, {}
        for layer in range(layers):
            groups = [*self.tasks, "shared"]
            for group in groups:
                key = f"{group}_{layer}"
                self.experts[key] = [self._expert(f"expert_{key}_{i}") for i in range(experts)]
                read = len(groups) if group == "shared" else 2
                if group != "shared" or layer < layers - 1:
                    self.gates[key] = self._gate(key, read * experts)
        self.layers_count = layers

    def call(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        read = dict.fromkeys([*self.tasks, "shared"], inputs)
        for layer in range(self.layers_count):
            found = {
                group: [expert(vector) for expert in self.experts[f"{group}_{layer}"]]
                for group, vector in read.items()
            }
            after = {}
            for group, vector in read.items():
                gate = self.gates.get(f"{group}_{layer}")
                if gate is None:  # the shared experts of the last layer have no reader
                    continue
                groups = list(read) if group == "shared" else [group, "shared"]
                after[group] = mixed([e for name in groups for e in found[name]], gate(vector))
            read = after
        return {task: read[task] for task in self.tasks}

    @property
    def last_shared(self) -> list[tf.Variable]:
        return [_last_kernel(e) for e in self.experts[f"shared_{self.layers_count - 1}"]]


def _last_kernel(expert: tf_keras.Sequential) -> tf.Variable:
    return expert.layers[-1].kernel
