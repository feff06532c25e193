"""Optimizers of embedding tables: worked rules, unchanged rows, tf_keras's optimizers, saving."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfrec_meta.keras import tf_keras
from tfrec_meta.training.optimizers import LazyAdagrad, LazyAdam, LazyAdamW, RowWiseAdagrad

OPTIMIZERS = (LazyAdagrad, RowWiseAdagrad, LazyAdam, LazyAdamW)
SCHEDULES = tf_keras.optimizers.schedules


def table(values, name="table"):
    return tf.Variable(np.asarray(values, np.float32), name=name)


def slices(rows, values, height=4):
    values = tf.constant(values, tf.float32)
    return tf.IndexedSlices(
        values, tf.constant(rows, tf.int32), tf.constant([height, *values.shape[1:]])
    )


def slots(optimizer):
    """Returns the optimizer's variables in order, without the step count."""
    return [variable.numpy() for variable in optimizer.variables[1:]]


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-7)


# The update rules, worked by hand.


def test_row_wise_adagrad_keeps_the_mean_square_of_each_row():
    x = table([[1, 1], [2, 2], [3, 3], [4, 4]])
    optimizer = RowWiseAdagrad(0.5, initial_accumulator_value=0.0, epsilon=0.0)
    optimizer.apply_gradients([(slices([2], [[3, 4]]), x)])  # mean square 12.5
    root = math.sqrt(12.5)
    assert_close(x.numpy()[2], [3 - 1.5 / root, 3 - 2 / root])
    optimizer.apply_gradients([(slices([2, 0], [[1, 2], [6, 8]]), x)])  # 12.5 + 2.5, and 50
    assert_close(
        x.numpy()[2],
        [3 - 1.5 / root - 0.5 / math.sqrt(15), 3 - 2 / root - 1 / math.sqrt(15)],
    )
    assert_close(x.numpy()[0], [1 - 3 / math.sqrt(50), 1 - 4 / math.sqrt(50)])
    (accumulator,) = slots(optimizer)
    assert_close(accumulator, [50, 0, 15, 0])


def test_lazy_adagrad_keeps_the_square_of_each_element():
    x = table([[1, 1], [2, 2]])
    optimizer = LazyAdagrad(1.0, initial_accumulator_value=9.0, epsilon=7.0)
    optimizer.apply_gradients([(slices([1], [[0, 3]], 2), x)])
    assert_close(x.numpy(), [[1, 1], [2, 2 - 3 / 5]])  # sqrt(9 + 9 + 7)
    optimizer.apply_gradients([(slices([1], [[3, 0]], 2), x)])
    assert_close(x.numpy(), [[1, 1], [2 - 3 / 5, 2 - 3 / 5]])
    assert_close(slots(optimizer)[0], [[9, 9], [18, 18]])


def test_lazy_adam_keeps_absent_rows_and_corrects_by_the_global_step():
    x = table([[1.0], [2.0]])
    optimizer = LazyAdam(0.1, beta_1=0.5, beta_2=0.75, epsilon=0.0)
    optimizer.apply_gradients([(slices([0], [[2.0]], 2), x)])
    # m = 1 and v = 1, corrected to 2 and 4: a step of 0.1.
    assert_close(x.numpy(), [[0.9], [2.0]])
    optimizer.apply_gradients([(slices([1], [[2.0]], 2), x)])
    # Row 1 also has m = 1 and v = 1, but with the correction of step 2: m / 0.75, v / 0.4375.
    second = 0.1 * (1 / 0.75) / math.sqrt(1 / 0.4375)
    assert_close(x.numpy(), [[0.9], [2.0 - second]])
    optimizer.apply_gradients([(slices([0], [[4.0]], 2), x)])
    # Row 0 goes from m = 1, v = 1 to m = 2.5, v = 4.75; at step 3: m / 0.875, v / 0.578125.
    third = 0.1 * (2.5 / 0.875) / math.sqrt(4.75 / 0.578125)
    assert_close(x.numpy(), [[0.9 - third], [2.0 - second]])
    m, v = slots(optimizer)
    assert_close(m, [[2.5], [1.0]])
    assert_close(v, [[4.75], [1.0]])


def test_lazy_adamw_decays_only_the_rows_of_the_batch():
    x = table([[1.0], [2.0], [3.0]])
    optimizer = LazyAdamW(0.1, weight_decay=0.5, epsilon=0.0)
    optimizer.apply_gradients([(slices([1], [[7.0]], 3), x)])
    assert_close(
        x.numpy(), [[1.0], [2.0 * 0.95 - 0.1], [3.0]]
    )  # the first step of Adam is the sign


def test_excluded_variables_do_not_decay():
    x, bias = table([[1.0], [2.0]]), table([1.0, 2.0], name="item_bias")
    optimizer = LazyAdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["item_bias"])
    zero = slices([0], [[0.0]], 2), slices([0], [0.0], 2)
    optimizer.apply_gradients(zip(zero, [x, bias], strict=True))
    assert_close(x.numpy(), [[0.95], [2.0]])
    assert_close(bias.numpy(), [1.0, 2.0])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_sums_the_gradients_of_repeated_rows(kind):
    once, repeated = (table(np.arange(8).reshape(4, 2)) for _ in range(2))
    one, other = kind(0.1), kind(0.1)
    for _ in range(3):
        one.apply_gradients([(slices([3, 1], [[5, -1], [1, 1]]), once)])
        gradient = slices([3, 1, 3, 3], [[1, 2], [1, 1], [1, -3], [3, 0]])
        other.apply_gradients([(gradient, repeated)])
    np.testing.assert_array_equal(once.numpy(), repeated.numpy())
    for slot, same in zip(slots(one), slots(other), strict=True):
        np.testing.assert_array_equal(slot, same)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_rows_without_a_gradient_keep_their_bits(kind):
    start = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    x = tf.Variable(start)
    optimizer = kind(0.1, weight_decay=0.3, clipnorm=1.0)
    optimizer.build([x])
    before = slots(optimizer)
    for rows in ([4, 9, 4], [9, 31]):
        gradient = slices(rows, np.full([len(rows), 3], 2.0), 50)
        optimizer.apply_gradients([(gradient, x)])
    others = np.setdiff1d(np.arange(50), [4, 9, 31])
    np.testing.assert_array_equal(x.numpy()[others], start[others])
    assert (x.numpy()[[4, 9, 31]] != start[[4, 9, 31]]).all()
    for slot, was in zip(slots(optimizer), before, strict=True):
        np.testing.assert_array_equal(slot[others], was[others])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_batch_without_rows_changes_nothing(kind):
    x = table([[1, 2], [3, 4]])
    kind(0.1).apply_gradients([(slices([], np.zeros([0, 2]), 2), x)])
    np.testing.assert_array_equal(x.numpy(), [[1, 2], [3, 4]])


def test_clips_norms_after_summing_repeated_rows():
    x = table([[0.0], [0.0]])
    optimizer = LazyAdagrad(1.0, initial_accumulator_value=0.0, epsilon=0.0, clipnorm=5.0)
    optimizer.apply_gradients([(slices([0, 1, 0], [[2.0], [8.0], [4.0]], 2), x)])  # (6, 8)
    assert_close(slots(optimizer)[0], [[9.0], [16.0]])
    y = table([[0.0], [0.0]])
    other = LazyAdagrad(1.0, initial_accumulator_value=0.0, epsilon=0.0, global_clipnorm=5.0)
    gradients = slices([0, 0], [[2.0], [4.0]], 2), tf.constant([[8.0], [0.0]])
    other.apply_gradients(zip(gradients, [x, y], strict=True))
    assert_close(slots(other)[0], [[9.0], [0.0]])
    assert_close(slots(other)[1], [[16.0], [0.0]])


# Compared with the optimizers of tf_keras.


@pytest.mark.parametrize("decay", [None, 0.2])
@pytest.mark.parametrize(
    "ours, stock",
    [
        (LazyAdam, tf_keras.optimizers.Adam),
        (LazyAdagrad, tf_keras.optimizers.Adagrad),
        (LazyAdamW, tf_keras.optimizers.AdamW),
    ],
)
@pytest.mark.parametrize("sparse", [True, False])
def test_equals_the_tf_keras_optimizer_if_every_row_has_a_gradient(ours, stock, decay, sparse):
    if decay is None and ours is LazyAdamW:
        decay = 0.004
    rng = np.random.default_rng(1)
    x, y = (tf.Variable(np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)) for _ in range(2))
    one, other = ours(0.05, weight_decay=decay), stock(0.05, weight_decay=decay)
    for _ in range(20):
        gradient = tf.constant(rng.normal(size=(5, 3)), tf.float32)
        if sparse:
            rows = rng.permutation(5)
            gradient = slices(rows, gradient.numpy(), 5)
        one.apply_gradients([(gradient, x)])
        other.apply_gradients([(gradient, y)])
    np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-5, atol=1e-6)


def test_lazy_adagrad_equals_that_of_tf_keras_for_any_rows():
    rng = np.random.default_rng(2)
    x, y = (tf.Variable(np.ones([30, 3], np.float32)) for _ in range(2))
    one, other = LazyAdagrad(0.5), tf_keras.optimizers.Adagrad(0.5)
    for _ in range(20):
        gradient = slices(rng.integers(0, 30, 12), rng.normal(size=(12, 3)), 30)
        one.apply_gradients([(gradient, x)])
        other.apply_gradients([(gradient, y)])
    np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-5, atol=1e-6)


def test_row_wise_adagrad_equals_adagrad_if_a_row_is_one_number():
    rng = np.random.default_rng(3)
    x, y = table(np.ones(6)), table(np.ones(6))
    one, other = RowWiseAdagrad(0.5), LazyAdagrad(0.5)
    for _ in range(5):
        gradient = slices(rng.integers(0, 6, 4), rng.normal(size=4), 6)
        one.apply_gradients([(gradient, x)])
        other.apply_gradients([(gradient, y)])
    np.testing.assert_array_equal(x.numpy(), y.numpy())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_dense_gradient_equals_one_of_all_rows(kind):
    x, y = table(np.ones([4, 2])), table(np.ones([4, 2]))
    one, other = kind(0.1, weight_decay=0.1), kind(0.1, weight_decay=0.1)
    for step in range(3):
        values = np.arange(8, dtype=np.float32).reshape(4, 2) - step
        one.apply_gradients([(tf.constant(values), x)])
        other.apply_gradients([(slices([2, 0, 3, 1], values[[2, 0, 3, 1]]), y)])
    assert_close(x.numpy(), y.numpy())
    for slot, same in zip(slots(one), slots(other), strict=True):
        assert_close(slot, same)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_trains_scalars_and_vectors(kind):
    number, vector = tf.Variable(1.0), table([1.0, 2.0])
    optimizer = kind(0.1)
    optimizer.apply_gradients([(tf.constant(2.0), number), (tf.constant([-1.0, 1.0]), vector)])
    assert number.numpy() < 1.0
    assert vector.numpy()[0] > 1.0
    assert vector.numpy()[1] < 2.0


# The slots of RowWiseAdagrad.


def test_row_wise_accumulators_belong_to_matrices_or_named_tables():
    kernel, users, bias = (
        table(np.ones([3, 2]), "kernel"),
        table(np.ones([5, 2]), "user_id"),
        table(np.ones(2), "bias"),
    )
    every, named = RowWiseAdagrad(), RowWiseAdagrad(tables=["user_id", "item_id"])
    for optimizer in (every, named):
        optimizer.build([kernel, users, bias])
    assert [slot.shape for slot in slots(every)] == [(3,), (5,), (2,)]
    assert [slot.shape for slot in slots(named)] == [(3, 2), (5,), (2,)]


# Keras: configs, schedules, fit, checkpoints, strategies.

COMMON = {"weight_decay": 0.3, "clipnorm": 2.0, "name": "mine"}
ADAGRAD = {"initial_accumulator_value": 0.5, "epsilon": 1e-3, **COMMON}
ADAM = {"beta_1": 0.7, "beta_2": 0.8, "epsilon": 1e-3, **COMMON}
ARGUMENTS = [
    (LazyAdagrad, ADAGRAD),
    (RowWiseAdagrad, {"tables": ["user_id"], **ADAGRAD}),
    (LazyAdam, ADAM),
    (LazyAdamW, ADAM),
    (LazyAdam, {"clipvalue": 0.5}),
    (LazyAdam, {"global_clipnorm": 0.5}),
]


@pytest.mark.parametrize("kind, arguments", ARGUMENTS)
def test_configs_round_trip(kind, arguments):
    optimizer = kind(0.25, **arguments)
    config = tf_keras.optimizers.serialize(optimizer)
    again = tf_keras.optimizers.deserialize(config)
    assert type(again) is kind
    assert again.get_config() == optimizer.get_config()
    for name, value in {"learning_rate": 0.25, **arguments}.items():
        assert again.get_config()[name] == value


def test_a_schedule_round_trips_and_sets_each_step():
    schedule = SCHEDULES.PiecewiseConstantDecay(
        [1], [0.5, 0.25]
    )  # the third step is past the boundary
    optimizer = tf_keras.optimizers.deserialize(
        tf_keras.optimizers.serialize(
            RowWiseAdagrad(schedule, initial_accumulator_value=0.0, epsilon=0.0)
        )
    )
    x = table([[0.0], [0.0]])
    for _ in range(3):
        optimizer.apply_gradients([(slices([1], [[2.0]], 2), x)])
    expected = -(0.5 + 0.5 / math.sqrt(2) + 0.25 / math.sqrt(3))
    assert_close(x.numpy(), [[0.0], [expected]])


def toy(optimizer):
    """Returns a rating model of 20 items, and its data."""
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Embedding(20, 4, input_length=1),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(1),
        ]
    )
    model.build([None, 1])
    model.compile(optimizer, "mse")
    rows = np.random.default_rng(0).integers(0, 20, [256, 1])
    return model, rows, (rows % 3).astype(np.float32)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_fit_learns(kind):
    model, rows, labels = toy(kind(0.1))
    curve = model.fit(rows, labels, epochs=8, verbose=0, shuffle=False).history["loss"]
    assert curve[-1] < 0.3 * curve[0]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_graph_steps_equal_eager_steps(kind):
    rng = np.random.default_rng(4)
    x, y = (tf.Variable(np.ones([30, 3], np.float32)) for _ in range(2))
    one, other = kind(0.1, weight_decay=0.1), kind(0.1, weight_decay=0.1)

    @tf.function
    def step(gradient):
        one.apply_gradients([(gradient, x)])

    for _ in range(4):
        gradient = slices(rng.integers(0, 30, 12), rng.normal(size=(12, 3)), 30)
        step(gradient)
        other.apply_gradients([(gradient, y)])
    np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_checkpoint_restores_the_slots(kind, tmp_path):
    model, rows, labels = toy(kind(0.1))
    model.fit(rows, labels, verbose=0, shuffle=False)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(tmp_path / "last")
    model.fit(rows, labels, verbose=0, shuffle=False)

    other, _, _ = toy(kind(0.1))
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path).assert_consumed()
    assert int(other.optimizer.iterations) == 8
    other.fit(rows, labels, verbose=0, shuffle=False)
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    for one, same in zip(slots(model.optimizer), slots(other.optimizer), strict=True):
        np.testing.assert_array_equal(one, same)


def test_reads_a_checkpoint_of_the_adam_of_tf_keras(tmp_path):
    model, rows, labels = toy(tf_keras.optimizers.Adam(0.1))
    model.fit(rows, labels, verbose=0)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(tmp_path / "last")
    other, _, _ = toy(LazyAdam(0.1))
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path).assert_consumed()
    for one, same in zip(slots(model.optimizer), slots(other.optimizer), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_saved_model_restores_optimizer_and_slots(kind, tmp_path):
    model, rows, labels = toy(kind(0.1))
    model.fit(rows, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    again = tf_keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is kind
    for one, same in zip(slots(model.optimizer), slots(again.optimizer), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_trains_with_a_mirrored_strategy(kind):
    alone, rows, labels = toy(kind(0.1))
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        mirrored, _, _ = toy(kind(0.1))
    for model in (alone, mirrored):
        model.fit(rows, labels, epochs=2, verbose=0, shuffle=False)
    for one, same in zip(alone.get_weights(), mirrored.get_weights(), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_mixed_precision_keeps_float32_slots(kind):
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model, rows, labels = toy(kind(0.1))  # Keras wraps it in a LossScaleOptimizer
        before, after = (model.fit(rows, labels, verbose=0).history["loss"] for _ in range(2))
        assert after < before
        inner = model.optimizer.inner_optimizer
        assert {slot.dtype for slot in slots(inner)} == {np.dtype(np.float32)}
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_no_tensor_of_a_step_has_the_rows_of_the_table(kind):
    height = 7919
    x = tf.Variable(tf.ones([height, 2]))
    optimizer = kind(0.1, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.build([x])

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(x, rows)))
        optimizer.apply_gradients([(tape.gradient(loss, x), x)])

    graph = step.get_concrete_function(tf.TensorSpec([None], tf.int32)).graph
    tall = [
        output.name
        for op in graph.get_operations()
        for output in op.outputs
        if output.shape.rank and output.shape[0] == height
    ]
    assert tall == []
    assert not [op.name for op in graph.get_operations() if op.type == "AssignSubVariableOp"]


# Bad arguments.


@pytest.mark.parametrize(
    "kind, arguments",
    [
        *[(kind, {"learning_rate": value}) for kind in OPTIMIZERS for value in (-0.1, math.nan)],
        *[(kind, {"weight_decay": -1.0}) for kind in OPTIMIZERS],
        (LazyAdagrad, {"initial_accumulator_value": -0.1}),
        (LazyAdagrad, {"epsilon": -1e-7}),
        (LazyAdam, {"beta_1": 1.0}),
        (LazyAdam, {"beta_2": -0.1}),
        (LazyAdam, {"epsilon": math.inf}),
        (LazyAdamW, {"weight_decay": None}),
        (RowWiseAdagrad, {"tables": "user_id"}),
    ],
)
def test_refuses_a_value_out_of_range_by_name(kind, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"`{name}`=.*; use "):
        kind(**arguments)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_refuses_averages_over_whole_tables(kind):
    with pytest.raises(TypeError, match="use_ema"):
        kind(use_ema=True)
