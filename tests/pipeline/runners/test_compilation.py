"""Compiled pipelines as files: complete, readable without TFX, and without credentials."""

import json

import pytest
from google.protobuf.json_format import MessageToDict
from tfx.orchestration import pipeline as tfx_pipeline

from tests.pipeline import toy_nodes
from tfrec_meta.pipeline import metadata_store
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.runners import compilation

DATABASE = {
    "TFREC_META_METADATA_HOST": "db.example",
    "TFREC_META_METADATA_USER": "recsys",
    "TFREC_META_METADATA_PASSWORD": "hush-hush",
}


def connection_to(kind, tmp_path):
    record = {"name": "p", "serving": "s", "root": str(tmp_path), "metadata": kind}
    config = PipelineConfig.from_dict({**record, "data": {"interactions": {"path": "x.csv"}}})
    return metadata_store.metadata_connection(config)


def test_a_compiled_pipeline_is_json_and_reads_back_unchanged(tmp_path):
    ir = compilation.compile_pipeline(toy_nodes.create(tmp_path))
    path = compilation.write_pipeline(ir, tmp_path / "pipeline.json")
    # The bytes of a packed message with a map have no fixed order: compare it unpacked.
    assert MessageToDict(compilation.read_pipeline(path)) == MessageToDict(ir)
    plain = json.loads(path.read_text())
    found = {
        node["pipeline_node"]["node_info"]["id"]: node["pipeline_node"].get("upstream_nodes", [])
        for node in plain["nodes"]
    }
    assert found == {"Count": [], "Double": ["Count"], "Push": ["Double"]}
    assert [entry.name for entry in tmp_path.glob(".pipeline*")] == []


def test_refuses_a_file_that_is_not_a_compiled_pipeline(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"other\.json is not a compiled pipeline"):
        compilation.read_pipeline(tmp_path / "other.json")


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_never_writes_credentials_into_a_compiled_pipeline(kind, tmp_path, monkeypatch):
    for name, value in DATABASE.items():
        monkeypatch.setenv(name, value)
    bare = connection_to(kind, tmp_path)
    for connection in (bare, metadata_store.open_connection(bare)):
        toy = toy_nodes.create(tmp_path)
        made = tfx_pipeline.Pipeline(
            pipeline_name="p",
            pipeline_root=str(tmp_path),
            components=toy.components,
            metadata_connection_config=connection,
        )
        path = compilation.write_pipeline(compilation.compile_pipeline(made), tmp_path / "p.json")
        assert kind in path.read_text()
        assert not any(value in path.read_text() for value in DATABASE.values())
