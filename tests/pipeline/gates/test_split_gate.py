"""SplitGate: which differences between the splits stop a run."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from tfx.types import channel_utils

import tfrec_meta as tm
from tests.pipeline import conftest
from tfrec_meta.pipeline.artifacts import SplitComparison
from tfrec_meta.pipeline.components.schemas import read_schema
from tfrec_meta.pipeline.config import SplitConfig
from tfrec_meta.pipeline.gates.drift import Limits
from tfrec_meta.pipeline.gates.split_gate import Executor, SplitGate, compared_features

USERS, EVENTS = 40, 10
TIME = SplitConfig(protocol="time", history_length=5, partitions=2)


def tables(device=lambda _: "tv"):
    """Users with one event on each of ten days; the last two are validation and test."""
    rows = range(USERS * EVENTS)
    users, days = [row % USERS for row in rows], [row // USERS for row in rows]
    events = {
        "user_id": [f"u{user}" for user in users],
        "item_id": [f"i{row % 7}" for row in rows],
        "time": days,
        "value": [1.0 + user % 2 for user in users],
        "device": [device(day) for day in days],
    }
    people = {
        "user_id": [f"u{n}" for n in range(USERS)],
        "age": [20 + n for n in range(USERS)],
    }
    films = {"item_id": [f"i{n}" for n in range(7)], "title": [f"film {n}" for n in range(7)]}
    return {
        "interactions": pa.table(events),
        "users": pa.table(people),
        "items": pa.table(films),
    }


def histories(folder: Path, config=TIME, feedback=None, **columns):
    inputs = {}
    for name, table in tables(**columns).items():
        (folder / name).mkdir(parents=True)
        inputs[name] = conftest.write_examples(table, folder / name)
    return conftest.run_histories(inputs, folder / "histories", config, feedback=feedback)


def run_gate(made, folder: Path, limits=Limits(0.3)):  # noqa: B008  (frozen)
    """Runs the node; returns the drifts that it wrote."""
    inputs = {name: made[name] for name in ("examples", "schema", "catalogue")}
    channels = {name: channel_utils.as_channel([artifact]) for name, artifact in inputs.items()}
    component = SplitGate(limits, **channels)
    compared = conftest.make_artifact(SplitComparison, folder / "compared")
    Executor().Do(
        {name: [artifact] for name, artifact in inputs.items()},
        {"compared": [compared]},
        component.exec_properties,
    )
    return json.loads(Path(compared.uri, "drift.json").read_text())["drift"]


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    return histories(tmp_path_factory.mktemp("alike"))


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """On the last day, which is the test split, everybody uses a phone."""
    return histories(
        tmp_path_factory.mktemp("moved"), device=lambda day: "phone" if day == 9 else "tv"
    )


def test_compares_values_context_and_user_attributes_only(alike):
    schema = read_schema(Path(alike["schema"].uri, "schema.pbtxt"))
    assert set(compared_features(schema)) == {
        "interactions.value",
        "interactions.device",
        "users.age",
    }


def test_accepts_similar_splits_and_records_the_drift(alike, tmp_path):
    found = run_gate(alike, tmp_path)
    assert {row["feature"] for row in found} == {
        "interactions.value",
        "interactions.device",
        "users.age",
    }
    assert {row["against"] for row in found} == {
        "the split train, split validation",
        "the split train, split test",
    }
    assert {row["limit"] for row in found} == {0.3}
    assert max(row["value"] for row in found) < 0.1


def test_refuses_a_drifted_split_and_names_feature_split_and_measure(moved, tmp_path):
    with pytest.raises(ValueError, match="The splits differ too much") as error:
        run_gate(moved, tmp_path)
    text = str(error.value)
    line = "drift, L-infinity of the shares against the split train, split test is 1.000, above 0.3"
    assert f"\ninteractions.device: {line}\n" in text
    assert "split validation" not in text
    assert "users.age" not in text
    assert 'set data.split_drift={"interactions.device": 1.0} for this run.' in text
    assert not Path(tmp_path, "compared", "drift.json").exists()


def test_a_drift_can_be_accepted(moved, tmp_path):
    found = run_gate(moved, tmp_path, Limits(0.3, {"interactions.device": 1.0}))
    assert 1.0 in [row["value"] for row in found]
    assert run_gate(moved, tmp_path, Limits(1.0)) == [row | {"limit": 1.0} for row in found]


def test_refuses_a_column_that_is_empty_in_the_test_split(tmp_path):
    made = histories(tmp_path, device=lambda day: None if day == 9 else "tv")
    with pytest.raises(ValueError, match=r"interactions\.device: drift, change of the share of"):
        run_gate(made, tmp_path)


def test_compares_target_events_with_those_of_the_target_in_train(tmp_path):
    """Users buy on even days and view on odd ones; validation and test have purchases only."""
    feedback = tm.Feedback(event_type="device", target=["purchase"])
    config = SplitConfig(train=0.6, validation=0.2, history_length=5, partitions=2)
    kinds = ["purchase", "view"]
    made = histories(tmp_path, config, feedback, device=lambda day: kinds[day % 2])
    found = run_gate(made, tmp_path)
    assert {row["feature"] for row in found} == {
        "interactions.value",
        "interactions.device",
        "users.age",
    }
    assert max(row["value"] for row in found) < 0.1
