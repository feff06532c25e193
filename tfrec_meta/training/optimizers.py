"""Optimizers whose step updates only the rows of an embedding table that occur in the batch.

The gradient of a lookup is a `tf.IndexedSlices`: some rows of the table, possibly repeated. These
optimizers sum repeated rows, read those rows of the table and of its slots, apply the update rule
and write them back. All other rows stay unchanged, bit by bit. After `build`, no tensor of the
table's size is created. For a dense gradient (`tf.Tensor`), the same rule updates the whole
variable.

In tf_keras 2.21 the cost of a step grows with the table for the following reasons, which these
optimizers avoid (`benchmarks/embedding_scale.py`):

- Adam and AdamW decay both moments of all rows and move all rows in each step.
- `weight_decay` (of AdamW, or of any optimizer that is given one, even 0) decays all rows. Here it
  decays the rows of the batch.
- `use_ema` averages all rows. It is not supported here.
- Adagrad updates only the rows of the batch, but adds to a slot before reading it. TensorFlow's
  scatter-add waits for memory at each row, and takes several times longer once a table is larger
  than the CPU cache. Reading all rows and then writing them overlaps these waits.
- `clipnorm` and `global_clipnorm` clip before repeated rows are summed, so that the norm is not
  that of the gradient. Here they clip afterwards.
- On a GPU, `jit_compile` is on by default. XLA compiles for fixed shapes, but the number of
  distinct rows changes in each step. Here it is off.

What still grows is memory latency: random rows of a table that fits into no cache are read once for
the model's lookup and once per slot. RowWiseAdagrad has the smallest slots.

Keras applies the `constraint` of a variable to the whole variable in each step, so do not use one
for large tables. Do not read a whole table in the model either: TensorFlow copies it once its rows
have been written one by one.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfrec_meta.checks import at_least, check, share
from tfrec_meta.keras import tf_keras

__all__ = ["LazyAdagrad", "LazyAdam", "LazyAdamW", "RowWiseAdagrad"]

# Arguments of Keras that make a pass over whole tables.
_UNSUPPORTED = ("use_ema", "ema_momentum", "ema_overwrite_frequency", "jit_compile")


class _LazyOptimizer(tf_keras.optimizers.Optimizer):
    """Applies an update rule to the rows that have a gradient.

    Subclasses define the slots and the rule.
    """

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None,
        clipnorm: float | None,
        clipvalue: float | None,
        global_clipnorm: float | None,
        name: str,
    ) -> None:
        if not isinstance(learning_rate, tf_keras.optimizers.schedules.LearningRateSchedule):
            _check_at_least_0(learning_rate=learning_rate)
        _check_at_least_0(weight_decay=0 if weight_decay is None else weight_decay)
        super().__init__(
            name,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            jit_compile=False,
        )
        self._learning_rate = self._build_learning_rate(learning_rate)

    # From the attribute that lists a slot of all variables to the name of the slot. Both are those
    # of tf_keras's optimizers, so that their checkpoints can be read if the shapes agree.
    _SLOTS: Mapping[str, str]

    @abc.abstractmethod
    def _initial(self, variable: tf.Variable) -> tf.Tensor:
        """Returns the initial value of a slot; its first axis is that of the variable, if any."""

    @abc.abstractmethod
    def _rule(
        self, gradient: tf.Tensor, value: tf.Tensor, slots: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Returns the new value and slots of some rows, or of a whole variable."""

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots of all variables."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        # One list per slot: Keras looks there for the shards of a sharded table.
        lists: dict[str, list[tf.Variable]] = {attribute: [] for attribute in self._SLOTS}
        for each in var_list:
            for attribute, name in self._SLOTS.items():
                initial = self._initial(each)
                slot = self.add_variable_from_reference(each, name, initial_value=initial)
                lists[attribute].append(slot)
        for attribute, slots in lists.items():
            setattr(self, attribute, slots)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Applies a gradient. The rows of a `tf.IndexedSlices` have to be distinct."""
        index = self._index_dict[self._var_key(variable)]
        slots = [getattr(self, attribute)[index] for attribute in self._SLOTS]
        if not isinstance(gradient, tf.IndexedSlices):
            value = self._decayed(tf.convert_to_tensor(variable), variable)
            value, new = self._rule(gradient, value, [tf.convert_to_tensor(slot) for slot in slots])
            variable.assign(value)
            for slot, state in zip(slots, new, strict=True):
                slot.assign(state)
            return
        rows = gradient.indices
        value = self._decayed(_read(variable, rows), variable)
        value, new = self._rule(gradient.values, value, [_read(slot, rows) for slot in slots])
        variable.scatter_update(tf.IndexedSlices(value, rows))
        for slot, state in zip(slots, new, strict=True):
            slot.scatter_update(tf.IndexedSlices(state, rows))

    def _decayed(self, value: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        if self.weight_decay is None or not self._use_weight_decay(variable):
            return value
        rate = tf.cast(self.learning_rate, value.dtype)
        return value - value * tf.cast(self.weight_decay, value.dtype) * rate

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Does nothing: Keras would decay all rows of all variables. `update_step` decays rows."""

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        return super()._clip_gradients(super()._deduplicate_sparse_grad(grads))

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> Sequence[Any]:
        return grads  # `_clip_gradients` summed repeated rows already

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Creates an optimizer from its configuration, without its state."""
        config = {name: value for name, value in config.items() if name != "is_legacy_optimizer"}
        return super().from_config(config, custom_objects)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, and Keras's mark of a non-legacy optimizer."""
        config = super().get_config()
        for name in _UNSUPPORTED:
            del config[name]
        config["learning_rate"] = self._serialize_hyperparameter(self._learning_rate)
        return config


@tf_keras.utils.register_keras_serializable("tfrec_meta")
class LazyAdagrad(_LazyOptimizer):
    """Adagrad: each element has its own learning rate, which falls with its squared gradients.

    For a gradient g: a += g², then x -= learning_rate * g / sqrt(a + epsilon). The result is that
    of tf_keras's Adagrad up to rounding.

    Args:
        learning_rate: a number of 0 or more, or a schedule.
        initial_accumulator_value: the initial value of a, 0 or more.
        epsilon: added under the root, 0 or more; not 0 if the accumulator starts at 0.
        weight_decay: decoupled weight decay: a row with a gradient is first multiplied by
            1 - learning_rate * weight_decay. Other rows do not decay. None or 0 turns it off.
        clipnorm: the largest norm of each gradient.
        clipvalue: the largest absolute value of each element of a gradient.
        global_clipnorm: the largest norm of all gradients together.
        name: the name of the optimizer.

    References:
        Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
        Optimization", JMLR 2011.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "LazyAdagrad",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        _check_at_least_0(initial_accumulator_value=initial_accumulator_value, epsilon=epsilon)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    _SLOTS = {"_accumulators": "accumulator"}

    def _initial(self, variable: tf.Variable) -> tf.Tensor:
        return _filled(self._accumulator_shape(variable), self.initial_accumulator_value, variable)

    def _accumulator_shape(self, variable: tf.Variable) -> tf.TensorShape:
        return variable.shape

    def _rule(
        self, gradient: tf.Tensor, value: tf.Tensor, slots: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        square, (accumulator,) = tf.square(gradient), slots
        # One number per row: the mean over the row's elements.
        within = list(range(accumulator.shape.rank, square.shape.rank))
        accumulator += tf.reduce_mean(square, axis=within) if within else square
        scale = tf.cast(self.learning_rate, value.dtype) * tf.math.rsqrt(accumulator + self.epsilon)
        for _ in within:
            scale = scale[..., None]
        return value - gradient * scale, [accumulator]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


@tf_keras.utils.register_keras_serializable("tfrec_meta")
class RowWiseAdagrad(LazyAdagrad):
    """Adagrad with one accumulator per row.

    Memory and memory traffic of the slot are divided by the embedding dimension. For the gradient g
    of a row: a += mean(g²), then x -= learning_rate * g / sqrt(a + epsilon). A row is everything
    under one index of the first axis. Variables with fewer than two axes are updated element-wise.

    Args:
        tables: variables with one accumulator per row: those whose name contains one of these texts
            (as in `exclude_from_weight_decay`). All others are updated element-wise. None for all
            variables with two or more axes, including the kernels of dense layers.

    The other arguments are those of LazyAdagrad.

    References:
        RWSAdagrad of DLRM (https://github.com/facebookresearch/dlrm, `optim/rwsadagrad.py`);
        row-wise Adagrad of FBGEMM and TorchRec; Mudigere et al., "Software-Hardware Co-design for
        Fast and Scalable Training of Deep Learning Recommendation Models", ISCA 2022. These add
        epsilon to the root and start at 0; here both are as in tf_keras's Adagrad.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        tables: Sequence[str] | None = None,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "RowWiseAdagrad",
    ) -> None:
        super().__init__(
            learning_rate,
            initial_accumulator_value,
            epsilon,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            name,
        )
        if isinstance(tables, str):
            raise ValueError(f"`tables`={tables!r}; use a list of names, [{tables!r}], or None.")
        self.tables = None if tables is None else tuple(tables)

    def _accumulator_shape(self, variable: tf.Variable) -> tf.TensorShape:
        named = self.tables is None or any(name in variable.name for name in self.tables)
        return variable.shape[:1] if named else variable.shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"tables": None if self.tables is None else [*self.tables]}


@tf_keras.utils.register_keras_serializable("tfrec_meta")
class LazyAdam(_LazyOptimizer):
    """Adam whose moments change only for rows with a gradient.

    For such a row at step t (the step of the optimizer, counted from 1, not of the row):
    m += (g - m) * (1 - beta_1), v += (g² - v) * (1 - beta_2), then
    x -= learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).

    This is tf_keras's Adam as long as every row has a gradient in every step. Otherwise there are
    two differences. Adam keeps moving a row without a gradient along its old m, and its moments
    decay; here the row and its moments stay unchanged. And since the bias correction uses the
    global step, it is too small for a row that first occurs late: m / sqrt(v) of its first gradient
    is (1 - beta_1) / sqrt(1 - beta_2), by default 3.2 times the sign. TensorFlow Addons and PyTorch
    do the same.

    Args:
        learning_rate: a number of 0 or more, or a schedule.
        beta_1: decay of the mean gradient, in [0, 1).
        beta_2: decay of the mean squared gradient, in [0, 1).
        epsilon: added to the root, 0 or more ("epsilon hat" in the paper).
        weight_decay: decoupled weight decay: a row with a gradient is first multiplied by
            1 - learning_rate * weight_decay. Other rows do not decay. None or 0 turns it off.
        clipnorm: the largest norm of each gradient.
        clipvalue: the largest absolute value of each element of a gradient.
        global_clipnorm: the largest norm of all gradients together.
        name: the name of the optimizer.

    Example:
        >>> from tfrec_meta.keras import tf_keras
        >>> from tfrec_meta.training.optimizers import LazyAdam
        >>> model = tf_keras.Sequential([tf_keras.layers.Embedding(1_000, 8)])
        >>> model.compile(LazyAdam(0.01), loss="mse")

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; LazyAdam of
        TensorFlow Addons; SparseAdam of PyTorch.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "LazyAdam",
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, name)
        for beta, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            check(beta, value, share())
        _check_at_least_0(epsilon=epsilon)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    # Two variables and not one for both: TensorFlow reads two short rows faster than a long one.
    _SLOTS = {"_momentums": "m", "_velocities": "v"}

    def _initial(self, variable: tf.Variable) -> tf.Tensor:
        return _filled(variable.shape, 0.0, variable)

    def _rule(
        self, gradient: tf.Tensor, value: tf.Tensor, slots: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        step = tf.cast(self.iterations + 1, value.dtype)
        power_1, power_2 = (
            tf.pow(tf.cast(beta, value.dtype), step) for beta in (self.beta_1, self.beta_2)
        )
        m, v = slots
        m += (gradient - m) * (1 - self.beta_1)
        v += (tf.square(gradient) - v) * (1 - self.beta_2)
        alpha = tf.cast(self.learning_rate, value.dtype) * tf.sqrt(1 - power_2) / (1 - power_1)
        return value - m * alpha / (tf.sqrt(v) + self.epsilon), [m, v]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


@tf_keras.utils.register_keras_serializable("tfrec_meta")
class LazyAdamW(LazyAdam):
    """LazyAdam with decoupled weight decay of the rows with a gradient; defaults as in AdamW.

    A row with a gradient in a share p of the steps decays p times as much as with AdamW. Rare rows,
    which have the least data to counteract the decay, therefore keep more of what they learned. The
    arguments are those of LazyAdam.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, in the form of
        tf_keras, in which the decay is learning_rate * weight_decay.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str = "LazyAdamW",
    ) -> None:
        if weight_decay is None:
            raise ValueError("`weight_decay`=None; use a number, or the optimizer LazyAdam.")
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            name,
        )


def _read(variable: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Returns rows of a variable, without reading the rest."""
    # Not `tf.gather`: on a CPU its kernel overlaps fewer memory accesses, and takes up to twice as
    # long if the table is larger than the cache.
    return tf.gather_nd(variable, rows[:, None])


def _filled(shape: tf.TensorShape, value: float, variable: tf.Variable) -> tf.Tensor:
    # With mixed precision, `dtype` is the type to which the variable is cast.
    return tf.fill(shape, tf.constant(value, getattr(variable, "true_dtype", variable.dtype)))


def _check_at_least_0(**arguments: float) -> None:
    for name, value in arguments.items():
        check(name, value, at_least(0, finite=True))
