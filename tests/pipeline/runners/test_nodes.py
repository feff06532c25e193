"""One node at a time, from a compiled pipeline: states, records, kills, failures, databases."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tfx.orchestration import pipeline as tfx_pipeline

from tests.pipeline import toy_nodes
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.runners import nodes


@pytest.fixture
def ir(tmp_path):
    return nodes.compile_pipeline(toy_nodes.create(tmp_path))


@pytest.fixture
def run(tmp_path):
    return tmp_path / "toy" / "runs" / "r1"


def ran(folder, node):
    """How often a node's executor ran."""
    path = folder / f"{node}.ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


def run_all(ir, run_id):
    return [nodes.run_node(ir, node, run_id) for node in toy_nodes.NODES]


def test_a_compiled_pipeline_is_json_that_comes_back_whole(ir, tmp_path):
    path = nodes.write_pipeline(ir, tmp_path / "pipeline.json")
    assert nodes.read_pipeline(path) == ir
    plain = json.loads(path.read_text())
    found = {
        node["pipeline_node"]["node_info"]["id"]: node["pipeline_node"].get("upstream_nodes", [])
        for node in plain["nodes"]
    }
    assert found == {"Count": [], "Double": ["Count"], "Push": ["Double"]}
    assert [entry.name for entry in tmp_path.glob(".pipeline*")] == []


def test_what_is_no_compiled_pipeline_is_named(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"other\.json is no compiled pipeline"):
        nodes.read_pipeline(tmp_path / "other.json")


def test_nodes_run_and_leave_records(ir, tmp_path, run):
    done = run_all(ir, "r1")
    assert [record.state for record in done] == ["ran"] * 3
    (model,) = done[1].outputs["model"]
    assert model["type"] == "Model"
    assert Path(model["uri"], "number").read_text() == "42"
    (pushed,) = done[2].outputs["pushed_model"]
    assert pushed["properties"]["pushed"] == 1
    assert pushed["properties"]["pushed_version"] == "42"
    assert nodes.read_records(run) == done
    assert all(record.began.endswith("+00:00") and record.seconds >= 0 for record in done)


def test_a_node_that_has_finished_under_the_run_id_is_not_run_again(ir, tmp_path, run):
    first = nodes.run_node(ir, "Count", "r1")
    assert nodes.run_node(ir, "Count", "r1") == first
    assert ran(tmp_path, "Count") == 1
    assert len(nodes.read_records(run)) == 1


def test_a_record_that_a_kill_prevented_is_made_up_for(ir, tmp_path, run):
    first = nodes.run_node(ir, "Count", "r1")
    (run / "nodes.jsonl").write_text('{"node": "Count", "st')
    again = nodes.run_node(ir, "Count", "r1")
    assert (again.state, again.outputs) == ("ran", first.outputs)
    assert nodes.read_records(run) == [again]  # the broken line does not swallow it
    assert ran(tmp_path, "Count") == 1


def test_a_new_run_takes_what_is_unchanged_from_the_cache(ir, tmp_path):
    first = run_all(ir, "r1")
    second = run_all(ir, "r2")
    assert [record.state for record in second] == ["cached"] * 3
    assert [record.outputs for record in second] == [record.outputs for record in first]
    assert ran(tmp_path, "Push") == 1
    other = nodes.compile_pipeline(toy_nodes.create(tmp_path, number=5))
    assert [record.state for record in run_all(other, "r3")] == ["ran"] * 3


def test_a_killed_node_runs_again_under_the_same_run_id_from_a_clean_folder(ir, tmp_path, run):
    (tmp_path / "Count.wait").touch()
    child = os.fork()
    if not child:
        try:
            nodes.run_node(ir, "Count", "r1")
        finally:
            os._exit(1)
    until(lambda: ran(tmp_path, "Count"))
    (half,) = (tmp_path / "toy" / "Count" / "examples").glob("*/half")
    (half.parent / "left over").touch()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (tmp_path / "Count.wait").unlink()
    done = nodes.run_node(ir, "Count", "r1")
    (examples,) = done.outputs["examples"]
    assert done.state == "ran"
    assert examples["properties"]["left"] == "half"
    assert Path(examples["uri"]) == half.parent  # the same execution goes on
    assert [record.state for record in run_all(ir, "r2")] == ["cached", "ran", "ran"]


def test_a_failing_node_raises_its_executors_own_error_and_can_be_retried(ir, tmp_path, run):
    nodes.run_node(ir, "Count", "r1")
    (tmp_path / "Double.fail").write_text("no such number")
    with pytest.raises(ArithmeticError, match="no such number"):
        nodes.run_node(ir, "Double", "r1")
    failed = nodes.read_records(run)[-1]
    assert (failed.state, failed.error) == ("failed", "ArithmeticError: no such number")
    (tmp_path / "Double.fail").unlink()
    assert nodes.run_node(ir, "Double", "r1").state == "ran"
    assert [record.state for record in nodes.read_records(run)] == ["ran", "failed", "ran"]


def test_a_node_whose_inputs_are_missing_fails(ir, run):
    with pytest.raises(RuntimeError, match="Double did not run; have its upstream nodes"):
        nodes.run_node(ir, "Double", "r1")
    assert nodes.read_records(run)[-1].state == "failed"


def test_a_node_that_there_is_none_of_is_named(ir):
    with pytest.raises(ValueError, match="no node 'Treble'; there are Count, Double, Push"):
        nodes.run_node(ir, "Treble", "r1")


@pytest.mark.parametrize("run_id", ["", "..", "../up", "a/b", ".hidden", "a b"])
def test_a_run_id_that_names_no_folder_is_refused(ir, run_id):
    with pytest.raises(ValueError, match="can't name a folder"):
        nodes.run_node(ir, "Count", run_id)


def test_a_run_that_has_begun_keeps_its_pipeline(ir, tmp_path, run):
    assert nodes.begin_run(ir, "r1", deployment={"directory": str(tmp_path)}) == run
    before = (run / "pipeline.json").read_text()
    other = nodes.compile_pipeline(toy_nodes.create(tmp_path, number=5))
    nodes.begin_run(other, "r1")
    assert (run / "pipeline.json").read_text() == before
    done = nodes.run_node_in(run, "Count")
    assert done.outputs["examples"][0]["properties"]["number"] == 21
    with pytest.raises(ValueError, match="belongs to run 'r1', not to 'r2'"):
        nodes.run_node(nodes.read_pipeline(run / "pipeline.json"), "Count", "r2")


def test_the_command_runs_a_node_and_hands_nothing_to_beam(ir, tmp_path, run, capsys, monkeypatch):
    nodes.begin_run(ir, "r1")
    monkeypatch.setattr(sys, "argv", ["nodes", "run", "--run", str(run)])
    assert nodes.main(["run", "--run", str(run), "--node", "Count"]) == 0
    said = capsys.readouterr()
    assert "Count says hello" in said.out
    assert "Count ran, " in said.out
    assert sys.argv[1] == "run"


def test_a_log_shows_no_noise_and_no_written_out_messages():
    def shown(level, text):
        record = logging.LogRecord("absl", level, "", 0, text, (), None)
        return record.getMessage() if nodes._Shorten().filter(record) else None

    assert shown(logging.INFO, "Running launcher for node_info {\n type {\n}") == (
        "Running launcher for node_info { …"
    )
    assert len(shown(logging.INFO, "x" * 1000)) == 302
    assert shown(logging.WARNING, "Fallback to non-ZetaSQL contexts") is None
    assert shown(logging.ERROR, "why:\nthis") == "why:\nthis"


# --- Metadata ----------------------------------------------------------------------------------

DATABASE = {
    "TFREC_META_METADATA_HOST": "db.example",
    "TFREC_META_METADATA_USER": "recsys",
    "TFREC_META_METADATA_PASSWORD": "hush-hush",
}


def config(kind, tmp_path):
    record = {"name": "p", "serving": "s", "root": str(tmp_path), "metadata": kind}
    return PipelineConfig.from_dict({**record, "data": {"interactions": {"path": "x.csv"}}})


def test_sqlite_lies_in_the_pipelines_folder(tmp_path):
    connection = nodes.metadata_connection(config("sqlite", tmp_path))
    assert connection.sqlite.filename_uri == str(tmp_path / "p" / "metadata.sqlite")
    assert nodes.open_connection(connection, DATABASE) == connection


@pytest.mark.parametrize("kind, port", [("mysql", 3306), ("postgresql", "5432")])
def test_databases_are_named_by_the_environment_at_run_time(kind, port, tmp_path):
    bare = nodes.metadata_connection(config(kind, tmp_path))
    opened = getattr(nodes.open_connection(bare, DATABASE), kind)
    assert (opened.host, opened.port, opened.user) == ("db.example", port, "recsys")
    assert opened.password == "hush-hush"
    named = {**DATABASE, "TFREC_META_METADATA_PORT": "99", "TFREC_META_METADATA_DATABASE": "meta"}
    opened = getattr(nodes.open_connection(bare, named), kind)
    assert int(opened.port) == 99
    assert "meta" in (getattr(opened, "database", ""), getattr(opened, "dbname", ""))


def test_a_database_without_a_host_or_with_a_wrong_port_is_refused(tmp_path):
    bare = nodes.metadata_connection(config("mysql", tmp_path))
    with pytest.raises(ValueError, match="kept in mysql: set TFREC_META_METADATA_HOST"):
        nodes.open_connection(bare, {})
    with pytest.raises(ValueError, match="TFREC_META_METADATA_PORT='x' is no port"):
        nodes.open_connection(bare, {**DATABASE, "TFREC_META_METADATA_PORT": "x"})


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_no_secret_is_ever_compiled_into_a_file(kind, tmp_path, monkeypatch):
    for name, value in DATABASE.items():
        monkeypatch.setenv(name, value)
    bare = nodes.metadata_connection(config(kind, tmp_path))
    for connection in (bare, nodes.open_connection(bare)):
        toy = toy_nodes.create(tmp_path)
        made = tfx_pipeline.Pipeline(
            pipeline_name="p",
            pipeline_root=str(tmp_path),
            components=toy.components,
            metadata_connection_config=connection,
        )
        path = nodes.write_pipeline(nodes.compile_pipeline(made), tmp_path / "p.json")
        assert kind in path.read_text()
        assert not any(value in path.read_text() for value in DATABASE.values())


def test_a_pipeline_without_metadata_is_told_what_it_lacks(tmp_path):
    toy = toy_nodes.create(tmp_path)
    made = tfx_pipeline.Pipeline(
        pipeline_name="p", pipeline_root=str(tmp_path), components=toy.components
    )
    with pytest.raises(ValueError, match="compiled without a metadata connection"):
        nodes.run_node(nodes.compile_pipeline(made), "Count", "r1")


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
