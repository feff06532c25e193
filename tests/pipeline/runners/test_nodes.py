"""Nodes of a compiled pipeline, one at a time: states, records, kills and failures."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tfx.orchestration import pipeline as tfx_pipeline

from tests.pipeline import toy_nodes
from tfrec_meta.pipeline.runners import compilation, nodes
from tfrec_meta.pipeline.runners.run_folder import read_records


@pytest.fixture
def ir(tmp_path):
    return compilation.compile_pipeline(toy_nodes.create(tmp_path))


@pytest.fixture
def run(tmp_path):
    return tmp_path / "toy" / "runs" / "r1"


def runs_of(folder, node):
    """How often a node's executor ran."""
    path = folder / f"{node}.ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


def run_all(ir, run_id):
    return [nodes.run_node(ir, node, run_id) for node in toy_nodes.NODES]


def test_nodes_run_and_are_recorded(ir, tmp_path, run):
    done = run_all(ir, "r1")
    assert [record.state for record in done] == ["ran"] * 3
    (model,) = done[1].outputs["model"]
    assert model["type"] == "Model"
    assert Path(model["uri"], "number").read_text() == "42"
    (pushed,) = done[2].outputs["pushed_model"]
    assert pushed["properties"]["pushed"] == 1
    assert pushed["properties"]["pushed_version"] == "42"
    assert read_records(run) == done
    assert all(record.began.endswith("+00:00") and record.seconds >= 0 for record in done)


def test_does_not_run_a_finished_node_again_under_the_same_run_id(ir, tmp_path, run):
    first = nodes.run_node(ir, "Count", "r1")
    assert nodes.run_node(ir, "Count", "r1") == first
    assert runs_of(tmp_path, "Count") == 1
    assert len(read_records(run)) == 1


def test_replaces_a_record_that_a_kill_left_incomplete(ir, tmp_path, run):
    first = nodes.run_node(ir, "Count", "r1")
    (run / "nodes.jsonl").write_text('{"node": "Count", "st')
    again = nodes.run_node(ir, "Count", "r1")
    assert (again.state, again.outputs) == ("ran", first.outputs)
    assert read_records(run) == [again]  # the incomplete line does not hide it
    assert runs_of(tmp_path, "Count") == 1


def test_a_new_run_takes_unchanged_nodes_from_the_cache(ir, tmp_path):
    first = run_all(ir, "r1")
    second = run_all(ir, "r2")
    assert [record.state for record in second] == ["cached"] * 3
    assert [record.outputs for record in second] == [record.outputs for record in first]
    assert runs_of(tmp_path, "Push") == 1
    other = compilation.compile_pipeline(toy_nodes.create(tmp_path, number=5))
    assert [record.state for record in run_all(other, "r3")] == ["ran"] * 3


def test_a_killed_node_runs_again_from_an_empty_folder(ir, tmp_path, run):
    (tmp_path / "Count.wait").touch()
    child = os.fork()
    if not child:
        try:
            nodes.run_node(ir, "Count", "r1")
        finally:
            os._exit(1)
    until(lambda: runs_of(tmp_path, "Count"))
    (half,) = (tmp_path / "toy" / "Count" / "examples").glob("*/half")
    (half.parent / "left over").touch()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (tmp_path / "Count.wait").unlink()
    done = nodes.run_node(ir, "Count", "r1")
    (examples,) = done.outputs["examples"]
    assert done.state == "ran"
    assert examples["properties"]["left"] == "half"
    assert Path(examples["uri"]) == half.parent  # the same execution continues
    assert [record.state for record in run_all(ir, "r2")] == ["cached", "ran", "ran"]


def test_a_failed_node_raises_its_executors_error_and_can_be_retried(ir, tmp_path, run):
    nodes.run_node(ir, "Count", "r1")
    (tmp_path / "Double.fail").write_text("no such number")
    with pytest.raises(ArithmeticError, match="no such number"):
        nodes.run_node(ir, "Double", "r1")
    failed = read_records(run)[-1]
    assert (failed.state, failed.error) == ("failed", "ArithmeticError: no such number")
    (tmp_path / "Double.fail").unlink()
    assert nodes.run_node(ir, "Double", "r1").state == "ran"
    assert [record.state for record in read_records(run)] == ["ran", "failed", "ran"]


def test_a_node_without_its_inputs_fails(ir, run):
    with pytest.raises(RuntimeError, match="Double did not run; run its upstream nodes"):
        nodes.run_node(ir, "Double", "r1")
    assert read_records(run)[-1].state == "failed"


def test_refuses_an_unknown_node(ir):
    with pytest.raises(ValueError, match="no node 'Treble'; use one of Count, Double, Push"):
        nodes.run_node(ir, "Treble", "r1")


@pytest.mark.parametrize("run_id", ["", "..", "../up", "a/b", ".hidden", "a b"])
def test_refuses_a_run_id_that_is_not_a_valid_folder_name(ir, run_id):
    with pytest.raises(ValueError, match="not a valid folder name"):
        nodes.run_node(ir, "Count", run_id)


def test_a_run_that_has_begun_keeps_its_pipeline(ir, tmp_path, run):
    assert nodes.begin_run(ir, "r1", deployment={"directory": str(tmp_path)}) == run
    before = (run / "pipeline.json").read_text()
    other = compilation.compile_pipeline(toy_nodes.create(tmp_path, number=5))
    nodes.begin_run(other, "r1")
    assert (run / "pipeline.json").read_text() == before
    done = nodes.run_node_in(run, "Count")
    assert done.outputs["examples"][0]["properties"]["number"] == 21
    with pytest.raises(ValueError, match="belongs to run 'r1', not to 'r2'"):
        nodes.run_node(compilation.read_pipeline(run / "pipeline.json"), "Count", "r2")


def test_the_command_runs_a_node_and_passes_no_arguments_to_beam(
    ir, tmp_path, run, capsys, monkeypatch
):
    nodes.begin_run(ir, "r1")
    monkeypatch.setattr(sys, "argv", ["nodes", "run", "--run", str(run)])
    assert nodes.main(["run", "--run", str(run), "--node", "Count"]) == 0
    said = capsys.readouterr()
    assert "Count says hello" in said.out
    assert "Count ran, " in said.out
    assert sys.argv[1] == "run"


def test_refuses_a_pipeline_without_a_metadata_connection(tmp_path):
    toy = toy_nodes.create(tmp_path)
    made = tfx_pipeline.Pipeline(
        pipeline_name="p", pipeline_root=str(tmp_path), components=toy.components
    )
    with pytest.raises(ValueError, match="compiled without a metadata connection"):
        nodes.run_node(compilation.compile_pipeline(made), "Count", "r1")


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)
