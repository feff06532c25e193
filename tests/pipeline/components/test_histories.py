"""Histories with Beam equals the in-memory algorithms on the same rows."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import Channel, artifact_utils, standard_artifacts

from tests.pipeline import conftest
from tfrec_meta.data import (
    Feedback,
    Interactions,
    histories,
    split_by_time,
    split_leave_last_out,
)
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.pipeline import events as rows_in_memory
from tfrec_meta.pipeline.components.histories import DROPPED, Histories
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.rows import beam_steps

LENGTH = 5
KEEP = CleaningRules(duplicates="keep")


def rows_of(examples, split):
    """Returns the rows of a split as dicts of lists, with text as str."""
    folder = Path(artifact_utils.get_split_uri([examples], split))
    files = sorted(map(str, folder.glob("data_*")))
    rows = []
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        row = {}
        for name, feature in tf.train.Example.FromString(record).features.feature.items():
            kind = feature.WhichOneof("kind")
            values = list(getattr(feature, kind).value) if kind else []
            if values:  # a missing cell is a feature without values
                row[name] = [v.decode() if isinstance(v, bytes) else v for v in values]
        rows.append(row)
    return rows


def events_of(examples, split):
    """Counts (user, item, time, value, history) of the events of a split."""
    return Counter(
        (
            row["user_id"][0],
            row["item_id"][0],
            row.get("time", [None])[0],
            row["value"][0],
            tuple(row.get("history", ())),
        )
        for row in rows_of(examples, split)
    )


def in_memory(table, **rules):
    """Returns what the library makes of the rows in their order."""
    keys = ["user_id", "time", "item_id", "value"]
    return Interactions.from_arrays(**{key: table[key] for key in keys}).clean(**rules)


def expected(data, rows):
    """Returns the result of `events_of` with the in-memory algorithm."""
    window = histories(data).window(rows, LENGTH)
    events = data.events.to_pylist()
    return Counter(
        (
            *(events[row][key] for key in ("user_id", "item_id", "time", "value")),
            tuple(events[past]["item_id"] for past in pasts if past >= 0),
        )
        for row, pasts in zip(rows.tolist(), window.tolist(), strict=True)
    )


def make(table, folder, rules=None, **config):
    examples = {"interactions": conftest.write_examples(table, folder)}
    return conftest.run_histories(
        examples, folder, SplitConfig(**{"history_length": LENGTH, **config}), rules=rules
    )


@pytest.mark.parametrize(
    "seed, partitions",
    [
        pytest.param(1, 1, marks=pytest.mark.pipeline),
        (2, 4),
        pytest.param(3, 16, marks=pytest.mark.pipeline),
    ],
)
def test_splits_by_time_as_in_memory(tmp_path, seed, partitions):
    table = conftest.toy_interactions(300, 12, 9, seed)  # many ties, many repeated items
    made = make(table, tmp_path, partitions=partitions)
    data = in_memory(table)
    split = split_by_time(data, 0.8, 0.1)
    for name in ("train", "validation", "test"):
        assert events_of(made["examples"], name) == expected(data, getattr(split, f"{name}_index"))
    seen = pq.read_table(Path(made["seen"].uri) / "events.parquet")
    past = split.past.events
    order = np.lexsort((past["time"].to_numpy(), past["user_id"].to_numpy()))  # stable
    assert seen.select(past.column_names).equals(past.take(order))


def test_leaves_the_last_out_as_in_memory(tmp_path):
    table = conftest.toy_interactions(120, 30, 9)  # some users have too few events
    made = make(table, tmp_path, protocol="leave-last-out", partitions=4)
    data = in_memory(table)
    split = split_leave_last_out(data)
    for name in ("train", "validation", "test"):
        assert events_of(made["examples"], name) == expected(data, getattr(split, f"{name}_index"))


def test_holds_out_all_events_of_cold_users(tmp_path):
    table = conftest.toy_interactions(400, 40, 9)
    made = make(table, tmp_path, protocol="cold-users", train=0.6, validation=0.2, partitions=4)
    parts = [
        {event[0] for event in events_of(made["examples"], name)}
        for name in ("train", "validation", "test")
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert 14 <= len(parts[0]) <= 34  # 24 within three standard deviations


def test_histories_have_strictly_earlier_events_only(toy_tables, toy_histories):
    table = toy_tables.interactions
    times = {}
    for row in table.to_pylist():
        times.setdefault((row["user_id"], row["item_id"]), []).append(row["time"])
    longest = 0
    for split in ("train", "validation", "test"):
        for user, _, time, _, history in events_of(toy_histories["examples"], split):
            firsts = [min(times[user, item]) for item in history]
            assert all(first < time for first in firsts)
            longest = max(longest, len(history))
    assert longest == conftest.HISTORY_LENGTH


def test_events_have_their_context_and_user_attributes(toy_tables, toy_histories):
    users = {row["user_id"]: row for row in toy_tables.users.to_pylist()}
    devices = Counter()
    for split in ("train", "validation", "test"):
        for row in rows_of(toy_histories["examples"], split):
            user = users[row["user_id"][0]]
            assert row.get("age", [None]) == [user["age"]]
            assert row["gender"] == [user["gender"]]
            devices.update(row["device"])
    assert devices == Counter(toy_tables.interactions["device"].to_pylist())


def test_writes_tables_as_splits_and_as_the_catalogue(toy_tables, toy_histories):
    for split, key, name in (("users", "user_id", "user"), ("items", "item_id", "item")):
        table = getattr(toy_tables, split).sort_by(key)
        rows = sorted(rows_of(toy_histories["examples"], split), key=lambda r: r[f"{name}/{key}"])
        for row, original in zip(rows, table.to_pylist(), strict=True):
            present = {k: v for k, v in original.items() if v is not None}
            assert row == {
                f"{name}/{k}": v if isinstance(v, list) else [v] for k, v in present.items()
            }
        found = pq.read_table(Path(toy_histories["catalogue"].uri) / f"{split}.parquet")
        assert found.select(table.column_names).to_pylist() == table.to_pylist()
    Interactions(
        pq.read_table(Path(toy_histories["seen"].uri) / "events.parquet"),
        pq.read_table(Path(toy_histories["catalogue"].uri) / "users.parquet"),
        pq.read_table(Path(toy_histories["catalogue"].uri) / "items.parquet"),
    )


def test_the_schema_has_every_column_once(toy_histories):
    text = (Path(toy_histories["schema"].uri) / "schema.pbtxt").read_text()
    schema = text_format.Parse(text, schema_pb2.Schema())
    types = {feature.name: schema_pb2.FeatureType.Name(feature.type) for feature in schema.feature}
    assert types == {
        **dict.fromkeys(("user_id", "item_id", "history", "device", "gender"), "BYTES"),
        **dict.fromkeys(("user/user_id", "user/gender", "item/item_id"), "BYTES"),
        **dict.fromkeys(("item/title", "item/genres"), "BYTES"),
        **dict.fromkeys(("time", "age", "user/age", "item/year"), "INT"),
        "value": "FLOAT",
    }
    assert len(types) == len(schema.feature)


def tables_with_repeats(folder):
    tables = {
        "interactions": conftest.toy_interactions(60, 5, 5).drop_columns(["device"]),
        "users": pa.table({"user_id": ["u1", "u1", "x\ny"], "age": [30, 20, 10]}),
        "items": pa.table({"item_id": ["i1", "i2", "i1"], "title": ["b", "d", "a"]}),
    }
    examples = {}
    for name, table in tables.items():
        (folder / name).mkdir()
        examples[name] = conftest.write_examples(table, folder / name)
    return examples


def test_keeps_one_row_per_id_and_counts_the_others(tmp_path):
    examples = tables_with_repeats(tmp_path)
    made = conftest.run_histories(examples, tmp_path, SplitConfig(partitions=2), rules=KEEP)
    assert dropped_of(made) == {
        "items: repeated item_id": 1,
        "users: line break in user_id": 1,
        "users: repeated user_id": 1,
    }
    items = pq.read_table(Path(made["catalogue"].uri) / "items.parquet")
    # Of two rows with one id, the first by its values is kept.
    assert items.to_pylist() == [
        {"item_id": "i1", "title": "a"},
        {"item_id": "i2", "title": "d"},
    ]
    total = sum(len(rows_of(made["examples"], s)) for s in ("train", "validation", "test"))
    assert total == 60


def test_stops_at_a_repeated_id_if_bad_rows_stop_the_run(tmp_path):
    examples = tables_with_repeats(tmp_path)
    with pytest.raises(ValueError, match=r"column `(user|item)_id`: '(u|i)1' is in 2 rows; keep"):
        conftest.run_histories(examples, tmp_path, SplitConfig(partitions=1), bad_rows="raise")


def test_writes_ids_alike_in_events_and_tables(tmp_path, caplog):
    """A table with 10.0 is read like events with 10; the text "07" keeps items as they are."""
    events = conftest.toy_interactions(60, 5, 5)
    users = [
        name.removeprefix("u") + ".0" * (row % 2)
        for row, name in enumerate(events["user_id"].to_pylist())
    ]
    items = [name.removeprefix("i") + ".0" for name in events["item_id"].to_pylist()]
    tables = {
        "interactions": events.set_column(0, "user_id", [users]).set_column(1, "item_id", [items]),
        "users": pa.table({"user_id": ["0.0", "1", "2.0"], "age": [30, 20, 10]}),
        "items": pa.table({"item_id": ["07", "3", "2"], "title": ["b", "d", "a"]}),
    }
    examples = {}
    for name, table in tables.items():
        (tmp_path / name).mkdir()
        examples[name] = conftest.write_examples(table, tmp_path / name)
    made = conftest.run_histories(examples, tmp_path, SplitConfig(partitions=3), rules=KEEP)
    seen = rows_in_memory.interactions(
        pq.read_table(Path(made["seen"].uri) / "events.parquet"), made["catalogue"].uri
    )
    assert set(seen.user_ids) <= {"0", "1", "2", "3", "4"}
    assert seen.users["user_id"].to_pylist() == ["0", "1", "2"]
    assert all(item.endswith(".0") for item in seen.item_ids)
    assert seen.items["item_id"].to_pylist() == ["07", "2", "3"]
    assert "interactions: none of the 5 distinct ids of the events have a row in `items`" in (
        caplog.text
    )


@pytest.mark.parametrize("batch", [7, 1000])
def test_every_value_is_one_if_no_event_has_a_value(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(beam_steps, "_ROWS_PER_BATCH", batch)
    table = conftest.toy_interactions(60, 6, 9).drop_columns(["value"])
    made = make(table, tmp_path, rules=KEEP, partitions=2)
    assert dropped_of(made) == {}
    events = [
        event
        for s in ("train", "validation", "test")
        for event in events_of(made["examples"], s).elements()
    ]
    assert [event[3] for event in events] == [1.0] * 60
    assert len(pq.read_table(Path(made["seen"].uri) / "events.parquet")) > 40


def dropped_of(made):
    return json.loads(made["examples"].get_string_custom_property(DROPPED))


def with_times(table, times):
    return table.set_column(2, "time", pa.array(times, pa.int64()))


@pytest.mark.parametrize(
    "duplicates, batch",
    [
        ("exact", 1),
        *(
            pytest.param(duplicates, batch, marks=pytest.mark.pipeline)
            for duplicates, batch in itertools.product(("exact", "last", "keep"), (1, 1000))
            if (duplicates, batch) != ("exact", 1)
        ),
    ],
)
def test_cleans_as_in_memory(tmp_path, monkeypatch, batch, duplicates):
    monkeypatch.setattr(beam_steps, "_ROWS_PER_BATCH", batch)
    table = conftest.toy_interactions(90, 6, 9)
    times = table["time"].to_pylist()
    times[3] = times[50] = None
    times[7], times[60] = -1, 5_000_000_000
    table = pa.concat_tables([with_times(table, times), with_times(table, times)[20:70:3]])
    # Copies of an event differ in another column: the first one in the files stays.
    table = table.set_column(4, "device", pa.array([f"d{row}" for row in range(len(table))]))
    rules = CleaningRules(duplicates, value_range=(2, 5))
    made = make(table, tmp_path, rules=rules, partitions=3)
    data = Interactions.from_arrays(
        *(table[key] for key in ("user_id", "item_id", "time", "value")),
        further={"device": table["device"]},
    ).clean(duplicates=duplicates, value_range=(2, 5))
    assert len(data.dropped) == (3 if duplicates == "keep" else 4)
    assert dropped_of(made) == {f"interactions: {why}": n for why, n in data.dropped.items()}
    split = split_by_time(data, 0.8, 0.1)
    for name in ("train", "validation", "test"):
        rows = getattr(split, f"{name}_index")
        assert events_of(made["examples"], name) == expected(data, rows)
        devices = [row["device"][0] for row in rows_of(made["examples"], name)]
        assert sorted(devices) == sorted(data.events["device"].take(rows).to_pylist())


@pytest.mark.parametrize("rules", [{}, {"time_range": (1, 2)}])
def test_stops_as_in_memory_if_no_event_is_left(tmp_path, rules):
    table = conftest.toy_interactions(30, 5, 5)
    times = [5_000_000_000 + row for row in range(30)]  # in the year 2128
    table = with_times(table, [None, None, *times[2:]])
    with pytest.raises(ValueError, match="no event is left") as in_memory_error:
        in_memory(table, **rules)
    with pytest.raises(ValueError, match="no event is left") as error:
        make(table, tmp_path, rules=CleaningRules(**rules))
    assert str(error.value) == str(in_memory_error.value)
    assert "2 missing time, 28 impossible time." in str(error.value)


def test_duplicates_of_the_last_events_are_in_one_split_only(tmp_path):
    table = conftest.toy_interactions(60, 6, 9)
    made = make(pa.concat_tables([table, table]), tmp_path, protocol="leave-last-out")
    held_out = [
        {event[:4] for event in events_of(made["examples"], name)}
        for name in ("validation", "test")
    ]
    assert all(held_out)
    assert not held_out[0] & held_out[1]


@pytest.mark.parametrize("protocol", ["time", "leave-last-out"])
def test_refuses_events_without_times_if_the_protocol_needs_them(tmp_path, protocol):
    table = with_times(conftest.toy_interactions(30, 5, 5), [None] * 30)
    with pytest.raises(ValueError, match=f"No event has a time, which the protocol '{protocol}'"):
        make(table, tmp_path, protocol=protocol)


def test_cold_users_need_no_times(tmp_path):
    table = with_times(conftest.toy_interactions(300, 60, 5), [None] * 300)
    made = make(table, tmp_path, protocol="cold-users", rules=CleaningRules("keep"))
    assert dropped_of(made) == {}


def shop_log(rows=300, users=12, seed=4):
    """Returns events of three types, with pairs that differ in their type only."""
    table = conftest.toy_interactions(rows, users, 9, seed).drop_columns(["device"])
    types = np.random.default_rng(seed).choice(["view", "cart", "purchase"], rows)
    table = table.append_column("action", pa.array(types))
    return pa.concat_tables(
        [table, table[:40], table[:30].set_column(4, "action", [["view"] * 30])]
    )


def shop_in_memory(table, feedback):
    keys = ["user_id", "item_id", "time", "value"]
    given = Interactions.from_arrays(
        **{key: table[key] for key in keys}, further={"action": table["action"]}
    )
    return given.with_feedback(feedback).clean()


SHOP = Feedback("action", {"cart": 2, "purchase": 5}, "value", ["cart", "purchase"], "negative")


@pytest.mark.parametrize(
    "protocol, target",
    [
        pytest.param("time", None, marks=pytest.mark.pipeline),
        ("time", ["purchase"]),
        pytest.param("leave-last-out", ["purchase"], marks=pytest.mark.pipeline),
    ],
)
def test_counts_events_as_in_memory(tmp_path, protocol, target):
    table = shop_log()
    feedback = Feedback.from_dict({**SHOP.as_dict(), "target": target})
    examples = {"interactions": conftest.write_examples(table, tmp_path)}
    config = SplitConfig(protocol=protocol, history_length=LENGTH, partitions=3)
    made = conftest.run_histories(examples, tmp_path, config, feedback=feedback)
    data = shop_in_memory(table, feedback)
    assert dropped_of(made) == {"interactions: duplicate": data.dropped["duplicate"]}
    split = (split_by_time if protocol == "time" else split_leave_last_out)(data)
    catalogue = made["catalogue"].uri
    order = [(name, "ascending") for name in ("user_id", "time", "item_id", "value", "action")]
    for name in ("train", "validation", "test"):
        stored = rows_in_memory.read_split(made["examples"].uri, name)
        found, wanted = rows_in_memory.interactions(stored, catalogue), getattr(split, name)
        assert found.feedback == feedback
        assert (
            found.events.select(wanted.events.column_names)
            .sort_by(order)
            .equals(wanted.events.sort_by(order))
        )
    seen = pq.read_table(Path(made["seen"].uri) / "events.parquet")
    past = rows_in_memory.interactions(seen, catalogue).events
    assert past.sort_by(order).equals(split.past.events.select(past.column_names).sort_by(order))
    identity = json.loads(made["examples"].get_string_custom_property("split_identity"))
    assert identity.get("target") == (target and ["action", *target])


def test_histories_have_positive_events_only(tmp_path):
    table = pa.table(
        {
            "user_id": ["u"] * 6,
            "item_id": list("abcdef"),
            "time": list(range(6)),
            "value": pa.array([5, 1, 4, 2, 5, 5], pa.float32()),
        }
    )
    examples = {"interactions": conftest.write_examples(table, tmp_path)}
    config = SplitConfig(train=0.6, validation=0.2, history_length=2)
    made = conftest.run_histories(examples, tmp_path, config, feedback=Feedback(positive=4))
    found = {
        event[1]: "".join(event[4])
        for name in ("train", "validation", "test")
        for event in events_of(made["examples"], name)
    }
    assert found == {"a": "", "b": "a", "c": "a", "d": "ac", "e": "ac", "f": "ce"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"target": ["refund"]}, "`target` names 'refund', but interactions has no such event"),
        ({"event_type": "kind"}, "`event_type`='kind', but interactions has the columns"),
        ({"event_weights": {"cart": 1}}, "no weight for 'purchase'"),
        ({"positive": ["view"], "event_weights": {"view": 1}}, "row 3 of shard 1, column `value`"),
    ],
)
def test_refuses_feedback_that_the_events_do_not_fit(tmp_path, change, words):
    table = shop_log(40, 5)
    values = [0.0 if row == 2 else 1.0 for row in range(len(table))]
    table = table.set_column(3, "value", pa.array(values, pa.float32()))
    actions = ["view", *table["action"].to_pylist()[1:]]
    actions[2] = "view"
    table = table.set_column(4, "action", pa.array(actions))
    feedback = Feedback.from_dict({**SHOP.as_dict(), **change})
    examples = {"interactions": conftest.write_examples(table, tmp_path)}
    with pytest.raises(ValueError, match=words):
        conftest.run_histories(examples, tmp_path, SplitConfig(), feedback=feedback)


def test_refuses_a_split_without_events(tmp_path):
    table = conftest.toy_interactions(40, 40, 5)
    table = table.set_column(2, "time", pa.array([7] * 40))
    with pytest.raises(ValueError, match="The protocol 'time' leaves no events for train"):
        make(table, tmp_path)


def test_refuses_a_column_that_events_and_users_share(tmp_path):
    tables = {
        "interactions": conftest.toy_interactions(40, 4, 5),
        "users": pa.table({"user_id": ["u1"], "device": ["phone"]}),
    }
    examples = {}
    for name, table in tables.items():
        (tmp_path / name).mkdir()
        examples[name] = conftest.write_examples(table, tmp_path / name)
    with pytest.raises(ValueError, match="Both users and events have a column `device`"):
        conftest.run_histories(examples, tmp_path)


def test_has_no_splits_of_tables_without_tables(tmp_path):
    made = make(conftest.toy_interactions(60, 5, 5), tmp_path)
    splits = artifact_utils.decode_split_names(made["examples"].split_names)
    assert splits == ["train", "validation", "test"]
    assert not list(Path(made["catalogue"].uri).iterdir())


def test_the_component_has_channels_for_the_given_tables():
    examples = Channel(type=standard_artifacts.Examples)
    component = Histories(examples, items=examples, config=SplitConfig(), seed=1)
    assert set(component.inputs) == {"interactions", "items"}
    assert set(component.outputs) == {"examples", "schema", "catalogue", "seen"}


@pytest.mark.parametrize("partitions", [1, 5])
def test_minimum_counts_reach_the_same_fixed_point_as_in_memory(tmp_path, partitions):
    """Some users have enough events only with items that are removed in an earlier round."""
    table = conftest.toy_interactions(150, 30, 40)
    limits = {"min_user_events": 4, "min_item_events": 4}
    made = make(table, tmp_path, rules=CleaningRules(**limits), partitions=partitions)
    data = in_memory(table, **limits)
    assert dropped_of(made) == {f"interactions: {why}": n for why, n in data.dropped.items()}
    once = in_memory(table, min_user_events=4)
    assert data.dropped["user with too few events"] > once.dropped["user with too few events"]
    split = split_by_time(data, 0.8, 0.1)
    for name in ("train", "validation", "test"):
        assert events_of(made["examples"], name) == expected(data, getattr(split, f"{name}_index"))


def test_minimum_counts_that_no_event_reaches_stop_the_run_as_in_memory(tmp_path):
    table = conftest.toy_interactions(40, 10, 10)
    rules = CleaningRules(min_user_events=30)
    with pytest.raises(ValueError, match=r"no event is left.*40 user with too few events") as error:
        make(table, tmp_path, rules=rules)
    with pytest.raises(ValueError) as in_memory_error:
        in_memory(table, min_user_events=30)
    assert str(error.value) == str(in_memory_error.value)


DAY = 86_400
SESSIONS = SplitConfig("leave-last-out", history_length=LENGTH, partitions=3)


def visits(rows):
    """Returns events of rows such as ("ann", "tea", 23.5, "s1"), with hours and session ids."""
    users, items, hours, ids = zip(*rows, strict=True)
    times = [1_700_006_400 + round(3600 * hour) for hour in hours]  # since a midnight
    return pa.table({"user_id": users, "item_id": items, "time": times, "session_id": ids})


# The second file begins at midnight.
VISITS = {
    "evening": visits(
        [("ann", "a", 23.7, "s1"), ("ann", "b", 23.9, "s1"), ("bob", "x", 9, "s2")]
        + [("bob", "y", 9.1, "s2"), ("bob", "z", 9.2, "s2"), ("bob", "a", 12, "s3")]
    ),
    "morning": visits(
        [("ann", "c", 24.2, "s1"), ("ann", "d", 24.5, "s1"), ("ann", "x", 33, "s4")]
        + [("ann", "y", 33.1, "s4"), ("ann", "z", 33.2, "s4")]
    ),
}


@pytest.mark.parametrize("sessions", ["30m", "session_id"])
def test_sessions_go_on_across_midnight_and_across_files(tmp_path, sessions):
    tables = VISITS
    if sessions == "30m":
        tables = {name: table.drop_columns(["session_id"]) for name, table in tables.items()}
    examples = {"interactions": conftest.write_examples(tables, tmp_path)}
    made = conftest.run_histories(examples, tmp_path, SESSIONS, sessions=sessions)
    test = events_of(made["examples"], "test")
    assert {(event[1], event[4]) for event in test} == {("d", ("a", "b", "c")), ("z", ("x", "y"))}
    assert len(test) == 3  # the sessions of one event have no test event
    users = {
        event[0]
        for split in ("train", "validation", "test")
        for event in events_of(made["examples"], split)
    }
    assert len(users) == 4
    assert not {"ann", "bob"} & users
    if sessions == "session_id":
        assert users == {"s1", "s2", "s3", "s4"}
    identity = json.loads(made["examples"].get_string_custom_property("split_identity"))
    assert identity == {"protocol": "leave-last-out", "sessions": sessions}


def test_sessions_by_an_idle_gap_are_those_in_memory(tmp_path):
    table = conftest.toy_interactions(300, 12, 9, seed=5)  # one event per minute or two
    times = table["time"].to_pylist()
    times[3], times[7] = None, -1  # no gap can place them
    table = pa.concat_tables([with_times(table, times), with_times(table, times)[40:60]])
    examples = {"interactions": conftest.write_examples(table, tmp_path)}
    rules = CleaningRules(min_user_events=2)
    made = conftest.run_histories(
        examples,
        tmp_path,
        SplitConfig(history_length=LENGTH, partitions=3),
        rules=rules,
        sessions="10m",
    )
    data = in_memory(table, duplicates="keep").with_sessions("10m").sessions_as_users()
    data = data.clean(min_user_events=2)
    assert dropped_of(made) == {f"interactions: {why}": n for why, n in data.dropped.items()}
    assert set(data.dropped) == {
        "missing time",
        "impossible time",
        "duplicate",
        "user with too few events",
    }
    split = split_by_time(data, 0.8, 0.1)
    users = set()
    for name in ("train", "validation", "test"):
        found = events_of(made["examples"], name)
        wanted = expected(data, getattr(split, f"{name}_index"))
        # The ids of the sessions differ: the library numbers them.
        assert Counter(event[1:] for event in found.elements()) == Counter(
            event[1:] for event in wanted.elements()
        )
        users |= {event[0] for event in found}
    assert len(users) == len(data.user_ids) > 12
