"""The folder of a run: names, states and records."""

import json

import pytest

from tfrec_meta.pipeline.runners.run_folder import (
    NodeRecord,
    NodeState,
    append_record,
    read_records,
    run_folder,
)

BEGAN = "2026-11-22T10:00:00+00:00"


def test_is_below_the_runs_of_the_pipeline(tmp_path):
    assert run_folder(tmp_path, "r1") == tmp_path / "runs" / "r1"
    with pytest.raises(ValueError, match="not a valid folder name"):
        run_folder(tmp_path, "../r1")


def test_records_round_trip_and_store_the_value_of_the_state(tmp_path):
    artifact = {"type": "Model", "uri": "/models/1", "id": 3, "properties": {}}
    ran = NodeRecord("Trainer", NodeState.RAN, BEGAN, 2.5, outputs={"model": [artifact]})
    failed = NodeRecord("Pusher", "failed", BEGAN, 0.5, error="ValueError: no")
    for record in (ran, failed):
        append_record(tmp_path, record)
    assert read_records(tmp_path) == [ran, failed]
    assert failed.state is NodeState.FAILED
    lines = (tmp_path / "nodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["ran", "failed"]


def test_ignores_incomplete_lines_and_unknown_states(tmp_path):
    (tmp_path / "nodes.jsonl").write_text('{"node": "A", "state": "wild"}\n{"node": "B", "st')
    record = NodeRecord("C", NodeState.CACHED, BEGAN, 0.1)
    append_record(tmp_path, record)
    assert read_records(tmp_path) == [record]


def test_a_record_is_one_line_for_a_log():
    artifact = {"type": "Model", "uri": "/models/1", "id": 3, "properties": {}}
    record = NodeRecord("Trainer", NodeState.RAN, BEGAN, 2.54, outputs={"model": [artifact]})
    assert str(record) == "Trainer ran, 2.5 s: /models/1"
