"""Streamed training rows: the same rows as from events in memory, part by part."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tfrec_meta.data import synthetic
from tfrec_meta.features import Category, FeatureSpec
from tfrec_meta.training.rows.base import RowOptions
from tfrec_meta.training.rows.events import EventRows
from tfrec_meta.training.rows.streamed import StreamedRows
from tfrec_meta.training.rows.windows import WindowRows

EVENTS = synthetic(60, 40, 900, seed=3).events
OPTIONS = RowOptions(epochs=2, batch_size=30, history_length=5, user_balance=0.5)
NAMES = ("user_id", "history", "item_id", "value", "device", "sample_weight")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All events, in two files."""
    folder = tmp_path_factory.mktemp("events")
    events = EVENTS.append_column("device", EVENTS["value"].cast("int32").cast("string"))
    for number, part in enumerate((events[:400], events[400:])):
        pq.write_table(part, folder / f"{number}.parquet")
    return folder


@pytest.fixture(scope="module")
def streamed(files):
    return tm.stream_interactions(files, {"device": "device"}, part_events=128)


@pytest.fixture(scope="module")
def in_memory(files):
    return tm.read_interactions(files, {"device": "device"})


@pytest.fixture(scope="module")
def spec(streamed):
    return FeatureSpec(context=(Category("device"),), history_length=5).fit(streamed)


def batches_of(rows, epoch=0):
    return [{k: v.numpy() for k, v in batch.items()} for batch in rows.batches(epoch)]


def listed(batches, names=NAMES):
    """Returns the rows of all batches as sorted tuples."""
    columns = [np.concatenate([batch[name] for batch in batches]) for name in names]
    flat = [column.reshape(len(column), -1) for column in columns]
    return sorted(map(tuple, np.concatenate(flat, axis=1).astype(float).round(5).tolist()))


def test_vocabularies_equal_those_of_events_in_memory(spec, in_memory):
    expected = FeatureSpec(context=(Category("device"),), history_length=5).fit(in_memory)
    assert spec.vocabularies == expected.vocabularies


def test_an_epoch_has_each_row_of_events_in_memory_once(streamed, in_memory, spec):
    expected = EventRows.from_interactions(in_memory, spec, OPTIONS)
    rows = StreamedRows(EventRows, streamed, spec, OPTIONS)
    assert rows.steps == expected.steps == 30
    batches = batches_of(rows)
    assert [batch["history"].shape for batch in batches] == [(30, 5)] * 60
    expected = listed(batches_of(expected)[:30])
    assert len(set(expected)) > 800
    assert listed(batches[:30]) == expected
    assert listed(batches[30:]) == expected


def test_an_epoch_has_each_target_of_a_window_once(streamed, in_memory, spec):
    expected = WindowRows.from_interactions(in_memory, spec, OPTIONS)
    rows = StreamedRows(WindowRows, streamed, spec, OPTIONS)
    assert rows.steps == expected.steps

    def targets(batches):
        user = np.concatenate([np.repeat(b["user_id"], 5) for b in batches])
        item = np.concatenate([b["item_id"].ravel() for b in batches])
        weight = np.concatenate([b["sample_weight"].ravel() for b in batches]).round(5)
        return sorted(zip(user[item > 0], item[item > 0], weight[item > 0], strict=True))

    ours, theirs = (targets(batches_of(each)[: rows.steps]) for each in (rows, expected))
    # Each drops a different last batch, which is smaller.
    assert len(set(ours) & set(theirs)) > 0.95 * len(theirs)
    assert len(set(ours)) == len(ours)


@pytest.mark.parametrize("kind", [EventRows, WindowRows])
def test_batches_depend_on_the_seed_and_start_at_any_epoch(kind, streamed, spec):
    options = dataclasses.replace(OPTIONS, history_dropout=0.3, user_dropout=0.3)
    rows = StreamedRows(kind, streamed, spec, options)
    both, again = batches_of(rows), batches_of(StreamedRows(kind, streamed, spec, options), 1)
    for one, other in zip(both[rows.steps :], again, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
    other = StreamedRows(kind, streamed, spec, dataclasses.replace(options, seed=7))
    assert not np.array_equal(batches_of(other)[0]["item_id"], both[0]["item_id"])
    assert not np.array_equal(both[0]["item_id"], both[rows.steps]["item_id"])
    assert other.digest == rows.digest


def test_a_step_may_have_several_batches(streamed, spec):
    options = dataclasses.replace(OPTIONS, accumulation=4)
    rows = StreamedRows(EventRows, streamed, spec, options)
    assert rows.steps == 7
    assert {batch["history"].shape for batch in batches_of(rows)} == {(4, 30, 5)}


def test_refuses_events_without_a_known_item(streamed):
    spec = FeatureSpec(history_length=5).fit(tm.Interactions.from_arrays(["u"], ["unheard of"]))
    with pytest.raises(ValueError, match="No training event has an item of the FeatureSpec"):
        StreamedRows(EventRows, streamed, spec, OPTIONS)


@pytest.mark.parametrize("kind", [EventRows, WindowRows])
def test_weights_have_a_mean_of_1_over_all_parts(kind, streamed, in_memory, spec):
    feedback = tm.Feedback(weight="value", positive=3, below="negative")
    parts, whole = streamed.with_feedback(feedback), in_memory.with_feedback(feedback)
    expected = kind.from_interactions(whole, spec, OPTIONS)
    assert expected.feedback.numpy()[expected.feedback > 0].mean() == pytest.approx(1, rel=1e-5)
    rows = StreamedRows(kind, parts, spec, OPTIONS)
    found = np.concatenate([batch["feedback"].ravel() for batch in batches_of(rows)])
    assert set(found.round(4)) == set(expected.feedback.numpy().round(4))
