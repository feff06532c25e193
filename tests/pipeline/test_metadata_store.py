"""The connection to ML Metadata: SQLite's file, and databases that the environment names."""

import pytest

from tfrec_meta.pipeline import metadata_store
from tfrec_meta.pipeline.config import PipelineConfig

DATABASE = {
    "TFREC_META_METADATA_HOST": "db.example",
    "TFREC_META_METADATA_USER": "recsys",
    "TFREC_META_METADATA_PASSWORD": "hush-hush",
}


def config(kind, tmp_path):
    record = {"name": "p", "serving": "s", "root": str(tmp_path), "metadata": kind}
    return PipelineConfig.from_dict({**record, "data": {"interactions": {"path": "x.csv"}}})


def test_sqlite_is_a_file_in_the_pipelines_folder(tmp_path):
    connection = metadata_store.metadata_connection(config("sqlite", tmp_path))
    assert connection.sqlite.filename_uri == str(tmp_path / "p" / "metadata.sqlite")
    assert metadata_store.open_connection(connection, DATABASE) == connection


@pytest.mark.parametrize("kind, port", [("mysql", 3306), ("postgresql", "5432")])
def test_reads_a_databases_address_and_credentials_from_the_environment(kind, port, tmp_path):
    bare = metadata_store.metadata_connection(config(kind, tmp_path))
    opened = getattr(metadata_store.open_connection(bare, DATABASE), kind)
    assert (opened.host, opened.port, opened.user) == ("db.example", port, "recsys")
    assert opened.password == "hush-hush"
    named = {**DATABASE, "TFREC_META_METADATA_PORT": "99", "TFREC_META_METADATA_DATABASE": "meta"}
    opened = getattr(metadata_store.open_connection(bare, named), kind)
    assert int(opened.port) == 99
    assert "meta" in (getattr(opened, "database", ""), getattr(opened, "dbname", ""))


def test_refuses_a_database_without_a_host_or_with_an_invalid_port(tmp_path):
    bare = metadata_store.metadata_connection(config("mysql", tmp_path))
    with pytest.raises(ValueError, match="stored in mysql: set TFREC_META_METADATA_HOST"):
        metadata_store.open_connection(bare, {})
    with pytest.raises(ValueError, match="TFREC_META_METADATA_PORT='x' is not a port"):
        metadata_store.open_connection(bare, {**DATABASE, "TFREC_META_METADATA_PORT": "x"})
