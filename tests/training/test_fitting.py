"""Training: recipe, batches, curve, early stopping, and going on after a kill."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tfrec_meta import training
from tfrec_meta.data import (
    Interactions,
    histories,
    split_leave_last_out,
    stream_interactions,
    synthetic,
)
from tfrec_meta.evaluation import Objective
from tfrec_meta.features import Category, FeatureSpec
from tfrec_meta.keras import tf_keras
from tfrec_meta.models import Popularity, PopularityConfig, TwoTower, TwoTowerConfig
from tfrec_meta.training import TrainingConfig, fitting, train
from tfrec_meta.training.user_events import RowOptions, UserEvents

DATA = synthetic(60, 40, 900, seed=3)
SPLIT = split_leave_last_out(DATA, validation=True)
SPEC = FeatureSpec(item=(Category("category"),), history_length=12).fit(SPLIT.train)
SHAPE = TwoTowerConfig(embedding_dim=8, user_id=True)
QUICK = TrainingConfig(epochs=3, batch_size=64, history_length=8, learning_rate=0.02)


def fresh(seed=0):
    training.seed_everything(seed)
    return TwoTower(SHAPE, SPEC)


def run(config=QUICK, validation=SPLIT.validation, **options):
    model = fresh()
    return model, train(model, SPLIT.train, validation, config, progress=False, **options)


def without_seconds(curve):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in curve]


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted():
    """State and curve of a run that nothing disturbed."""
    model, curve = run()
    return model.state(), curve


# The recipe.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("epochs", value) for value in (0, -1, 2.5, None)],
        *[("batch_size", value) for value in (1, 0, "64")],
        ("history_length", 0),
        ("patience", -1),
        ("seed", -1),
        *[("learning_rate", value) for value in (0, -0.1, float("nan"), float("inf"))],
        *[("weight_decay", value) for value in (-0.1, float("nan"))],
        *[("user_balance", value) for value in (-0.5, float("nan"), float("inf"))],
        *[("history_dropout", value) for value in (-0.1, 1.0, float("nan"))],
        *[("user_dropout", value) for value in (-0.1, 1.0)],
        *[(name, -0.1) for name in ("l2", "adversarial_weight", "adversarial_size")],
        ("accumulation", 0),
        *[("average_decay", value) for value in (-0.1, 1.0)],
        *[(name, value) for name in ("history_crop", "history_reorder") for value in (-0.1, 1.1)],
        ("history", "later"),
        ("rows", "users"),
        ("optimizer", "sgd"),
    ],
)
def test_a_bad_recipe_names_the_value_and_the_way_out(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`=.*; use "):
        TrainingConfig(**{name: value})


def test_windows_know_no_leave_one_out():
    with pytest.raises(ValueError, match="Use 'earlier' or 'auto'"):
        TrainingConfig(rows="windows", history="leave_one_out")


def test_a_mean_of_whole_tables_and_a_lazy_optimizer_exclude_each_other():
    with pytest.raises(ValueError, match=r"`average_decay`=0.9 .*`optimizer`='lazy_adam' .*Use 0"):
        TrainingConfig(optimizer="lazy_adam", average_decay=0.9)


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
def test_an_optimizer_goes_by_its_name_and_spares_the_bias(name, kind):
    model = fresh()
    optimizer = fitting._optimizer(TrainingConfig(optimizer=name, weight_decay=0.25), 10, model)
    assert type(optimizer).__name__ == kind
    optimizer.build(model.trainable_variables)
    decays = {"AdamW": 0.25, "LazyAdamW": 0.25}
    assert optimizer.weight_decay == decays.get(kind)
    if kind in decays:
        assert not optimizer._use_weight_decay(model.item_bias)
        assert optimizer._use_weight_decay(model.item_embedding)


def test_auto_is_lazy_from_a_hundred_thousand_rows(monkeypatch):
    monkeypatch.setattr(fitting, "_LARGE_TABLE", len(SPEC.users))
    chosen = fitting._optimizer(TrainingConfig(), 10, fresh())
    assert type(chosen).__name__ == "LazyAdamW"
    averaged = fitting._optimizer(TrainingConfig(average_decay=0.9), 10, fresh())
    assert type(averaged).__name__ == "AdamW"


def test_a_step_reads_and_writes_no_whole_table():
    """Of a table that is looked up, each gradient is of rows, and no op reads the variable."""
    data = synthetic(60, 2_000, 900, seed=3)
    spec = FeatureSpec(history_length=4).fit(data)
    model = TwoTower(TwoTowerConfig(embedding_dim=4, user_id=True), spec)
    model.prepare(data)
    config = TrainingConfig(optimizer="lazy_adamw", history_length=4, batch_size=16)
    optimizer = fitting._optimizer(config, 10, model)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    batch = next(iter(fitting._rows(data, model, config).batches(0)))
    graph = tf.function(model.train_step).get_concrete_function(batch).graph
    rows = {len(spec.items), len(spec.items) - 1, len(spec.users)}
    large = [
        (op.type, output.shape)
        for op in graph.get_operations()
        for output in op.outputs
        if output.shape.rank and output.shape[0] in rows
    ]
    assert not large


def test_a_recipe_goes_through_json():
    config = TrainingConfig(epochs=5, history="earlier", user_balance=0.25)
    assert TrainingConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    rate = fitting._learning_rate(0.5, steps=40)  # of which 2 rise
    assert [float(rate(step)) for step in (0, 1, 2, 21, 40)] == pytest.approx(
        [0.0, 0.25, 0.5, 0.25, 0.0], abs=1e-7
    )
    short = fitting._learning_rate(0.5, steps=10)  # too few to rise
    assert [float(short(step)) for step in (0, 5, 10)] == pytest.approx([0.5, 0.25, 0.0], abs=1e-7)


# Batches.


def events_of(data=SPLIT.train, spec=SPEC, **options):
    recipe = {"epochs": 3, "batch_size": 64, "history_length": 8, "user_dropout": 0.1}
    return UserEvents.of(data, spec, RowOptions(**{**recipe, "user_balance": 0.5, **options}))


def batches_of(events, epoch=0):
    return [
        {name: value.numpy() for name, value in batch.items()} for batch in events.batches(epoch)
    ]


def row_events(data):
    """A spec under which each event has an item of its own, so that batches show event rows."""
    n = len(data)
    ids = np.array([f"{row:04d}" for row in range(n)], object)
    marked = Interactions.from_arrays(
        data.events["user_id"], ids, time=None if data.times is None else data.times
    )
    return marked, FeatureSpec(history_length=12).fit(marked)


def test_earlier_histories_are_those_of_the_data_package():
    marked, spec = row_events(SPLIT.train)
    events = events_of(marked, spec, user_dropout=0.0)
    row_of_item = spec.items.decode(np.arange(len(spec.items)))[1:].astype(int)
    past = histories(marked)
    seen = 0
    for batch in batches_of(events):
        rows = row_of_item[batch["item_id"] - 1]
        window = past.window(rows, 8)
        given = np.where(batch["history"] > 0, row_of_item[batch["history"] - 1], -1)
        np.testing.assert_array_equal(given, window)
        times = marked.times
        assert (times[given] < times[rows][:, None])[given >= 0].all()
        seen += (given >= 0).sum()
    assert seen > 1000


def test_events_of_one_second_are_no_history_of_each_other():
    data = Interactions.from_arrays(["u"] * 4, ["a", "b", "c", "d"], time=[1, 1, 2, 2])
    spec = FeatureSpec(history_length=4).fit(data)
    (batch,) = batches_of(events_of(data, spec, epochs=1, batch_size=4))
    items = spec.items.decode(batch["item_id"])
    given = dict(zip(items, spec.items.decode(batch["history"]).tolist(), strict=True))
    assert given == {
        "a": [""] * 4,
        "b": [""] * 4,
        "c": ["a", "b", "", ""],
        "d": ["a", "b", "", ""],
    }


def test_leave_one_out_samples_other_events_without_replacement():
    marked, spec = row_events(SPLIT.train)
    events = events_of(marked, spec, history="leave_one_out", user_dropout=0.0)
    user_of_item = np.zeros(len(spec.items), int)
    user_of_item[spec.items.encode(marked.events["item_id"])] = marked.user_codes + 1
    counts = np.bincount(marked.user_codes)
    drawn = {}
    for batch in batches_of(events):
        for item, history in zip(batch["item_id"], batch["history"], strict=True):
            others = history[history > 0]
            assert item not in others
            assert len(set(others)) == len(others)
            assert (user_of_item[others] == user_of_item[item]).all()
            assert len(others) == min(8, counts[user_of_item[item] - 1] - 1)
            drawn.setdefault(item, []).append(frozenset(others))
    again = [sets for sets in drawn.values() if len(sets) > 1 and len(sets[0]) == 8]
    assert again
    # A sample is new in each epoch, unless the user has hardly more events than it holds.
    assert np.mean([len(set(sets)) > 1 for sets in again]) > 0.8


def test_leave_one_out_never_shows_a_repeat_of_the_target():
    data = Interactions.from_arrays(["u"] * 4, ["a", "a", "b", "c"])
    spec = FeatureSpec(history_length=4).fit(data)
    for batch in batches_of(events_of(data, spec, history="leave_one_out", batch_size=4)):
        assert not (batch["history"] == batch["item_id"][:, None]).any()


def test_a_user_of_one_event_has_no_history():
    data = Interactions.from_arrays(["u", "v"], ["a", "b"])
    spec = FeatureSpec(history_length=4).fit(data)
    for kind in ("earlier", "leave_one_out"):
        (batch,) = batches_of(events_of(data, spec, epochs=1, history=kind, batch_size=2))
        assert not batch["history"].any()


@pytest.mark.parametrize("kind", ["earlier", "leave_one_out"])
def test_batches_depend_on_the_seed_and_start_at_any_epoch(kind):
    options = {"history": kind, "history_dropout": 0.3, "user_dropout": 0.3}
    events = events_of(**options)
    all_epochs = batches_of(events)
    assert len(all_epochs) == 3 * events.steps
    for one, other in (
        (all_epochs, batches_of(events_of(**options))),
        (all_epochs[2 * events.steps :], batches_of(events, epoch=2)),
    ):
        assert len(one) == len(other)
        for batch, same in zip(one, other, strict=True):
            for name, value in batch.items():
                np.testing.assert_array_equal(value, same[name], err_msg=name)
    another = batches_of(events_of(seed=43, **options))
    assert not np.array_equal(another[0]["item_id"], all_epochs[0]["item_id"])


def test_an_epoch_holds_each_event_at_most_once_and_another_order_each_time():
    marked, spec = row_events(SPLIT.train)
    events = events_of(marked, spec)
    items = np.stack([batch["item_id"] for batch in batches_of(events)]).reshape(3, -1)
    assert items.shape[1] == len(marked) // 64 * 64
    for epoch in items:
        assert len(set(epoch)) == len(epoch)
    assert not np.array_equal(items[0], items[1])
    assert set(items[0]) != set(items[1])  # the rest that is left out changes


def test_dropout_hides_about_its_share():
    batches = batches_of(events_of(user_dropout=0.4, history_dropout=0.25))
    plain = batches_of(events_of(user_dropout=0.0, history_dropout=0.0))
    users = np.concatenate([batch["user_id"] for batch in batches])
    assert 0.35 < (users == 0).mean() < 0.45
    kept = sum((batch["history"] > 0).sum() for batch in batches)
    assert 0.73 < kept / sum((batch["history"] > 0).sum() for batch in plain) < 0.77
    assert all((batch["user_id"] > 0).all() for batch in plain)


def test_what_is_hidden_in_one_step_says_nothing_of_the_next():
    events = events_of(user_dropout=0.5, history_dropout=0.5, history="leave_one_out")
    batches = batches_of(events)
    hidden = [batch["user_id"] == 0 for batch in batches]
    dropped = [(batch["history"] == 0).ravel()[:64] for batch in batches]
    agree = [np.mean(a == b) for a, b in zip(hidden[:-1], dropped[1:], strict=True)]
    assert 0.4 < np.mean(agree) < 0.6


def test_a_crop_leaves_a_run_of_the_history():
    marked, spec = row_events(SPLIT.train)
    whole = batches_of(events_of(marked, spec))
    cropped = batches_of(events_of(marked, spec, history_crop=1.0))
    lengths = []
    for one, other in zip(whole, cropped, strict=True):
        for before, after in zip(one["history"], other["history"], strict=True):
            kept = np.flatnonzero(after)
            np.testing.assert_array_equal(after[kept], before[kept])
            assert len(kept) == 0 or len(kept) == kept[-1] - kept[0] + 1
            assert (len(kept) > 0) == (before > 0).any()
            lengths.append((len(kept), (before > 0).sum()))
    short, full = np.array(lengths).T
    assert (short < full).mean() > 0.4
    assert (short == full).any()


def test_a_crop_of_a_long_past_leaves_some_of_what_is_read():
    data = Interactions.from_arrays(["u"] * 200, [f"i{n}" for n in range(200)], time=range(200))
    spec = FeatureSpec(history_length=8).fit(data)
    events = events_of(data, spec, history="leave_one_out", history_crop=1.0, batch_size=200)
    for batch in batches_of(events):
        assert (batch["history"] > 0).any(axis=1).all()


def test_reordering_shuffles_a_run_and_loses_nothing():
    marked, spec = row_events(SPLIT.train)
    whole = batches_of(events_of(marked, spec))
    shuffled = batches_of(events_of(marked, spec, history_reorder=0.5))
    changed, rows = 0, 0
    for one, other in zip(whole, shuffled, strict=True):
        rows += len(one["history"])
        np.testing.assert_array_equal(np.sort(other["history"]), np.sort(one["history"]))
        np.testing.assert_array_equal(other["history"] > 0, one["history"] > 0)
        changed += (one["history"] != other["history"]).any(axis=1).sum()
    assert 0.1 * rows < changed < 0.5 * rows


def test_user_balance_by_hand():
    data = Interactions.from_arrays(list("uuuuv"), list("abcda"))
    spec = FeatureSpec().fit(data)
    # Raw weights are 4 ** -0.5 and 1, whose mean over the five events is 0.6.
    weights = events_of(data, spec, user_balance=0.5).weight.numpy()
    np.testing.assert_allclose(weights, np.array([0.5, 0.5, 0.5, 0.5, 1.0]) / 0.6, rtol=1e-6)
    assert events_of(data, spec, user_balance=0.0).weight.numpy().tolist() == [1.0] * 5
    full = events_of(data, spec, user_balance=1.0).weight.numpy()
    assert full[:4].sum() == pytest.approx(full[4])


def test_context_features_travel_with_their_event():
    data = Interactions.from_arrays(
        list("uuvv"), list("abab"), further={"device": ["web", "tv", "tv", "web"]}
    )
    spec = FeatureSpec(context=(Category("device"),), history_length=2).fit(data)
    device = {("u", "a"): "web", ("u", "b"): "tv", ("v", "a"): "tv", ("v", "b"): "web"}
    (batch,) = batches_of(events_of(data, spec, epochs=1, batch_size=4, user_dropout=0.0))
    users, items = spec.users.decode(batch["user_id"]), spec.items.decode(batch["item_id"])
    for user, item, row in zip(users, items, batch["device"][:, 0], strict=True):
        assert spec.vocabularies["context.device"].decode(row) == device[user, item]


def test_events_of_unknown_items_are_left_out_and_unknown_users_stay():
    data = Interactions.from_arrays(list("uvw"), list("abz"))
    spec = FeatureSpec(history_length=2).fit(Interactions.from_arrays(["u"], ["a"]))
    spec = spec.fit(Interactions.from_arrays(["u"], ["b"]))
    (batch,) = batches_of(events_of(data, spec, epochs=1, batch_size=512, user_dropout=0.0))
    assert sorted(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True)) == [
        (0, 2),
        (1, 1),
    ]
    with pytest.raises(ValueError, match="No training event has an item of the FeatureSpec"):
        events_of(Interactions.from_arrays(["u"], ["z"]), spec)


# The course of training.


def test_the_curve_holds_what_the_docstring_promises(uninterrupted):
    _, curve = uninterrupted
    assert [line["epoch"] for line in curve] == [1, 2, 3]
    for line in curve:
        assert set(line) == {"epoch", "loss", "val_ndcg@10", "val_recall@10", "seconds"}
        assert 0 <= line["val_ndcg@10"] <= 1
        assert line["seconds"] > 0
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert json.loads(json.dumps(curve)) == curve


def test_the_same_seed_gives_the_same_weights_and_metrics(uninterrupted):
    model, curve = run()
    assert_same_weights(model.state(), uninterrupted[0])
    assert without_seconds(curve) == without_seconds(uninterrupted[1])


def test_without_validation_every_epoch_is_run_and_the_last_one_stays():
    config = dataclasses.replace(QUICK, epochs=2, patience=1)
    model, curve = run(config, validation=None)
    assert [set(line) for line in curve] == [{"epoch", "loss", "seconds"}] * 2
    with_empty, _ = run(config, validation=SPLIT.train.take([]))
    assert_same_weights(with_empty.state(), model.state())


class _Scripted:
    """Stands in for `Validation`; its figures come from a list."""

    values = ()

    has_answers = True

    def __init__(self, *_):
        self.left = list(self.values)

    def metrics(self, model):
        model.refresh()
        return {Objective.NDCG: self.left.pop(0)}


def test_training_stops_when_patience_runs_out_and_keeps_the_best_epoch(monkeypatch):
    monkeypatch.setattr(fitting, "Validation", _Scripted)
    monkeypatch.setattr(_Scripted, "values", (0.1, 0.5, 0.4, 0.5, 0.9))
    states = []

    class Keep(tf_keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(self.model.state())

    config = dataclasses.replace(QUICK, epochs=5, patience=2)
    model, curve = run(config, callbacks=[Keep()])
    assert [line[Objective.NDCG] for line in curve] == [0.1, 0.5, 0.4, 0.5]
    assert_same_weights(model.state(), states[1])  # the first of the two best

    _, curve = run(dataclasses.replace(config, patience=0))
    assert len(curve) == 5


def test_a_loss_that_is_no_number_is_an_error_with_the_way_out():
    class Poison(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.item_bias.assign(self.model.item_bias * np.nan)

    with pytest.raises(ValueError, match=r"loss of epoch 2 is nan. Lower `learning_rate` \(0.02\)"):
        run(callbacks=[Poison()])


def test_lines_tell_of_progress_where_there_is_no_terminal(capsys):
    train(fresh(), SPLIT.train, SPLIT.validation, dataclasses.replace(QUICK, epochs=2))
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    assert ", val_ndcg@10 0." in lines[1]


def test_closed_forms_fit_at_once():
    assert training.fit(Popularity(PopularityConfig(), SPEC), SPLIT.train) == []


# Going on.


class Interrupt(tf_keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Folder, state and curve of a run that was interrupted twice."""
    folder = tmp_path_factory.mktemp("run")
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(folder=folder, callbacks=[Interrupt(epoch)])
    model, curve = run(folder=folder)
    return folder, model.state(), curve


def test_an_interrupted_run_goes_on_and_ends_alike(resumed, uninterrupted):
    _, state, curve = resumed
    # So that the best epoch is read from the disk while the one after it goes on.
    assert curve[1][Objective.NDCG] < curve[0][Objective.NDCG]
    assert_same_weights(state, uninterrupted[0])
    assert without_seconds(curve) == without_seconds(uninterrupted[1])


def test_epochs_are_told_and_what_ends_the_training_leaves_its_checkpoint(tmp_path, uninterrupted):
    told = []

    def tell(model, line):
        told.append((type(model), dict(line)))
        if len(told) == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run(folder=tmp_path, on_epoch=tell)
    model, curve = run(folder=tmp_path, on_epoch=tell)  # the last epoch alone
    state, whole = uninterrupted
    assert [line for _, line in told] == curve
    assert without_seconds(curve) == without_seconds(whole)
    assert {kind for kind, _ in told} == {TwoTower}
    assert_same_weights(model.state(), state)


def test_training_on_windows_with_dropout_goes_on_and_ends_alike(tmp_path):
    shape = TwoTowerConfig(embedding_dim=8, encoder="transformer", encoder_dropout=0.3)
    config = dataclasses.replace(QUICK, rows="windows", history_dropout=0.1)

    def go(**options):
        training.seed_everything(0)
        model = TwoTower(shape, SPEC)
        curve = train(model, SPLIT.train, SPLIT.validation, config, progress=False, **options)
        return model.state(), without_seconds(curve)

    with pytest.raises(KeyboardInterrupt):
        go(folder=tmp_path, callbacks=[Interrupt(1)])
    state, curve = go(folder=tmp_path)
    whole, whole_curve = go()
    assert curve == whole_curve
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert_same_weights(state, whole)


EVERYTHING = TrainingConfig(
    epochs=3,
    batch_size=32,
    accumulation=2,
    history_length=8,
    history_dropout=0.1,
    history_crop=0.3,
    history_reorder=0.3,
    learning_rate=0.02,
    l2=0.001,
    adversarial_weight=0.5,
    average_decay=0.9,
)


@pytest.mark.parametrize("rows", ["events", "windows"])
def test_a_recipe_with_everything_goes_on_and_ends_alike(tmp_path, rows):
    config = dataclasses.replace(EVERYTHING, rows=rows)
    shape = dataclasses.replace(
        SHAPE, negatives="mixed", uniform_negatives=20, memory=50, logq="streaming"
    )

    def go(**options):
        training.seed_everything(0)
        model = TwoTower(shape, SPEC)
        curve = train(model, SPLIT.train, SPLIT.validation, config, progress=False, **options)
        return model.state(), without_seconds(curve)

    with pytest.raises(KeyboardInterrupt):
        go(folder=tmp_path, callbacks=[Interrupt(1)])
    state, curve = go(folder=tmp_path)
    whole, whole_curve = go()
    assert curve == whole_curve
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert_same_weights(state, whole)


def test_the_running_mean_of_the_weights_is_what_is_validated_and_kept():
    config = dataclasses.replace(QUICK, epochs=1, average_decay=0.5, learning_rate=0.05)
    lone = dataclasses.replace(config, batch_size=len(SPLIT.train) // 2)  # of two steps
    seen = []

    class Weights(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.item_embedding.numpy())

        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.item_embedding.numpy())

    model, curve = run(lone, callbacks=[Weights()])
    assert len(seen) == 3
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    np.testing.assert_allclose(model.item_embedding.numpy(), expected, atol=1e-6)
    asking = training.Validation(SPEC, SPLIT.train, SPLIT.validation, seed=1)
    assert asking.metrics(model)["val_ndcg@10"] == curve[0]["val_ndcg@10"]


def test_without_validation_the_running_mean_stays_as_well():
    config = dataclasses.replace(QUICK, average_decay=0.9)
    averaged, _ = run(config)
    unasked, _ = run(config, validation=None)
    plain, _ = run(dataclasses.replace(config, average_decay=0.0), validation=None)
    assert not np.allclose(unasked.item_embedding, plain.item_embedding, atol=1e-4)
    assert averaged.state().keys() == unasked.state().keys()


def test_bfloat16_products_change_little_and_only_while_training():
    option = "auto_mixed_precision_onednn_bfloat16"
    (_, curve), (mixed, low) = (
        run(dataclasses.replace(QUICK, mixed_precision=on)) for on in (False, True)
    )
    assert not tf.config.optimizer.get_experimental_options().get(option, False)
    assert low[-1]["loss"] == pytest.approx(curve[-1]["loss"], rel=0.05)
    assert all(value.dtype != tf.bfloat16 for value in mixed.weights)


@pytest.mark.timeout(900)  # compiling takes half a minute of two quiet cores
def test_a_compiled_step_learns_the_same(uninterrupted):
    _, compiled = run(dataclasses.replace(QUICK, epochs=1, jit_compile=True))
    assert compiled[0]["loss"] == pytest.approx(uninterrupted[1][0]["loss"], rel=0.02)


def test_a_batch_of_one_window_has_no_negatives_and_is_refused():
    config = dataclasses.replace(QUICK, rows="windows", batch_size=8)
    with pytest.raises(ValueError, match="`batch_size`=8 is one window"):
        run(config)


def test_more_batches_a_step_than_an_epoch_has_are_refused():
    with pytest.raises(ValueError, match="`accumulation`=1000, but an epoch has fewer"):
        run(dataclasses.replace(QUICK, accumulation=1000))


def test_a_run_folder_holds_curve_checkpoints_and_logs(resumed):
    folder, _, curve = resumed
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "history.jsonl",
        "run.json",
        "tensorboard",
    }
    written = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert written == curve
    found = {}
    for path in (folder / "tensorboard").rglob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found.setdefault(path.parent.name, set()).update(v.tag for v in event.summary.value)
    assert "epoch_loss" in found["train"]
    assert {"epoch_ndcg@10", "epoch_recall@10"} <= found["validation"]


def test_a_run_that_has_ended_is_only_read(resumed):
    folder, state, curve = resumed
    model, same = run(folder=folder, callbacks=[Interrupt(0)])
    assert same == curve
    assert_same_weights(model.state(), state)


def test_a_stopped_run_stays_stopped_and_keeps_only_the_best_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "Validation", _Scripted)
    monkeypatch.setattr(_Scripted, "values", (0.1, 0.5, 0.4))
    config = dataclasses.replace(QUICK, patience=1)
    model, curve = run(config, folder=tmp_path)
    best = {path.name.split(".")[0] for path in (tmp_path / "checkpoints").glob("best-*")}
    assert best == {"best-2"}
    again, same = run(config, folder=tmp_path, callbacks=[Interrupt(0)])
    assert same == curve
    assert_same_weights(again.state(), model.state())


def test_a_folder_of_another_run_is_refused_with_what_differs(resumed):
    folder = resumed[0]

    def start(model, data=SPLIT.train, config=QUICK):
        return train(model, data, SPLIT.validation, config, folder, progress=False)

    with pytest.raises(ValueError, match=r"\(training.epochs, training.seed\). Use another folder"):
        start(fresh(), config=dataclasses.replace(QUICK, epochs=9, seed=7))
    with pytest.raises(ValueError, match=r"\(model.embedding_dim\)"):
        start(TwoTower(dataclasses.replace(SHAPE, embedding_dim=4), SPEC))
    other = SPLIT.train.take(np.arange(len(SPLIT.train))[::-1])  # as many events
    with pytest.raises(ValueError, match=r"\(data.events\)"):
        start(fresh(), other)
    items = pa.table({"item_id": ["new"], "category": ["new"]})
    grown = SPEC.fit(dataclasses.replace(SPLIT.train, items=items))
    with pytest.raises(ValueError, match=r"\(features.vocabularies"):
        start(TwoTower(SHAPE, grown))
    validation = SPLIT.validation.take(np.arange(len(SPLIT.validation))[::-1])  # as many events
    with pytest.raises(ValueError, match=r"\(data.validation\)"):
        train(fresh(), SPLIT.train, validation, QUICK, folder, progress=False)


def test_a_run_killed_by_the_system_goes_on_and_ends_alike(tmp_path, uninterrupted):
    """SIGKILL in a process of its own: nothing gets the chance to tidy up."""
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_training as t
        from tfrec_meta.keras import tf_keras

        class Kill(tf_keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if self.epoch == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            def on_epoch_begin(self, epoch, logs=None):
                self.epoch = epoch

        t.run(folder={str(tmp_path)!r}, callbacks=[Kill()])
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 1
    model, curve = run(folder=tmp_path)
    assert without_seconds(curve) == without_seconds(uninterrupted[1])
    assert_same_weights(model.state(), uninterrupted[0])


# Streamed events.


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    pq.write_table(SPLIT.train.events, folder / "events.parquet")
    return stream_interactions(folder, part_events=200, items=DATA.items)


def test_streamed_events_are_counted_and_trained_on_as_those_in_memory(
    streamed, uninterrupted, tmp_path
):
    model = fresh()
    options = {"config": QUICK, "folder": tmp_path, "progress": False}
    curve = train(model, streamed, SPLIT.validation, **options)
    in_memory, _ = uninterrupted
    for name, value in model.state().items():
        if name.endswith(("item_counts:0", "user_counts:0")):
            np.testing.assert_array_equal(value, in_memory[name], err_msg=name)
    assert [line["epoch"] for line in curve] == [1, 2, 3]
    assert curve[-1]["loss"] < curve[0]["loss"]
    # The rows are the same, in another order: about the same is learned.
    assert curve[-1]["loss"] == pytest.approx(uninterrupted[1][-1]["loss"], rel=0.1)
    again = fresh()
    assert train(again, streamed, SPLIT.validation, **options) == curve
    assert_same_weights(again.state(), model.state())


def test_streamed_events_are_refused_where_all_are_needed_at_once(streamed):
    model = Popularity(PopularityConfig(), SPEC)
    with pytest.raises(TypeError, match="'popularity' is solved from all events at once"):
        training.fit(model, streamed)
