"""The optimizer of a recipe, and its learning rate schedule."""

import pytest
import tensorflow as tf

from tests.training.small_run import SPEC, fresh
from tfrec_meta.data import synthetic
from tfrec_meta.features import FeatureSpec
from tfrec_meta.models import TwoTower, TwoTowerConfig
from tfrec_meta.training import TrainingConfig, optimizer_choice
from tfrec_meta.training.loop import training_rows
from tfrec_meta.training.optimizer_choice import learning_rate_schedule, make_optimizer


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auto", "AdamW"),
        ("adamw", "AdamW"),
        ("lazy_adamw", "LazyAdamW"),
        ("lazy_adam", "LazyAdam"),
        ("adagrad", "Adagrad"),
        ("lazy_adagrad", "LazyAdagrad"),
        ("row_wise_adagrad", "RowWiseAdagrad"),
    ],
)
def test_makes_the_named_optimizer_without_decay_of_the_bias(name, kind):
    model = fresh()
    optimizer = make_optimizer(TrainingConfig(optimizer=name, weight_decay=0.25), 10, model)
    assert type(optimizer).__name__ == kind
    optimizer.build(model.trainable_variables)
    decays = {"AdamW": 0.25, "LazyAdamW": 0.25}
    assert optimizer.weight_decay == decays.get(kind)
    if kind in decays:
        assert not optimizer._use_weight_decay(model.item_bias)
        assert optimizer._use_weight_decay(model.item_embedding)


def test_auto_is_lazy_for_large_tables(monkeypatch):
    monkeypatch.setattr(optimizer_choice, "_LARGE_TABLE", len(SPEC.users))
    chosen = make_optimizer(TrainingConfig(), 10, fresh())
    assert type(chosen).__name__ == "LazyAdamW"
    averaged = make_optimizer(TrainingConfig(average_decay=0.9), 10, fresh())
    assert type(averaged).__name__ == "AdamW"


@pytest.mark.slow
def test_a_lazy_step_reads_and_writes_no_whole_table():
    """Gradients of embedding tables are of single rows, and no op reads a whole table."""
    data = synthetic(60, 2_000, 900, seed=3)
    spec = FeatureSpec(history_length=4).fit(data)
    model = TwoTower(TwoTowerConfig(embedding_dim=4, user_id=True), spec)
    model.prepare(data)
    config = TrainingConfig(optimizer="lazy_adamw", history_length=4, batch_size=16)
    optimizer = make_optimizer(config, 10, model)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    batch = next(iter(training_rows(data, model, config).batches(0)))
    graph = tf.function(model.train_step).get_concrete_function(batch).graph
    rows = {len(spec.items), len(spec.items) - 1, len(spec.users)}
    large = [
        (op.type, output.shape)
        for op in graph.get_operations()
        for output in op.outputs
        if output.shape.rank and output.shape[0] in rows
    ]
    assert not large


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rate = learning_rate_schedule(0.5, steps=40)  # the rate rises over 2 of them
    assert [float(rate(step)) for step in (0, 1, 2, 21, 40)] == pytest.approx(
        [0.0, 0.25, 0.5, 0.25, 0.0], abs=1e-7
    )
    short = learning_rate_schedule(0.5, steps=10)  # too few for a rise
    assert [float(short(step)) for step in (0, 5, 10)] == pytest.approx([0.5, 0.25, 0.0], abs=1e-7)
