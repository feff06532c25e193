"""The connection to ML Metadata: an SQLite file, or a MySQL or PostgreSQL database.

Credentials of a database are read from the environment when a node runs. No compiled pipeline
contains them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ml_metadata.proto import metadata_store_pb2

from tfrec_meta.pipeline.config import PipelineConfig

ENVIRONMENT = "TFREC_META_METADATA_"  # prefix of the environment variables of a database
_DATABASES = ("mysql", "postgresql")


def metadata_connection(config: PipelineConfig) -> metadata_store_pb2.ConnectionConfig:
    """Returns the connection to compile into a pipeline of `config`.

    SQLite's file is `<pipeline's folder>/metadata.sqlite`; the folder is created. For MySQL and
    PostgreSQL the connection contains the kind only: `open_connection` reads the rest from the
    environment.
    """
    connection = metadata_store_pb2.ConnectionConfig()
    if config.metadata == "sqlite":
        config.folder.mkdir(parents=True, exist_ok=True)
        connection.sqlite.filename_uri = str(config.folder / "metadata.sqlite")
        connection.sqlite.connection_mode = (
            metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        )
    else:
        getattr(connection, config.metadata).SetInParent()
    return connection


def without_credentials(
    connection: metadata_store_pb2.ConnectionConfig,
) -> metadata_store_pb2.ConnectionConfig:
    """Returns the connection with nothing but the kind of a database; SQLite's is unchanged."""
    kind = connection.WhichOneof("config")
    if kind not in _DATABASES:
        return connection
    bare = metadata_store_pb2.ConnectionConfig()
    getattr(bare, kind).SetInParent()
    return bare


def open_connection(
    connection: metadata_store_pb2.ConnectionConfig, environment: Mapping[str, str] = os.environ
) -> metadata_store_pb2.ConnectionConfig:
    """Returns the connection with a database's address and credentials from the environment.

    The variables are TFREC_META_METADATA_HOST, _PORT, _DATABASE, _USER and _PASSWORD. A connection
    to SQLite is returned unchanged.

    Raises:
        ValueError: for a variable that is missing or invalid; the message names it.
    """
    kind = connection.WhichOneof("config")
    if kind not in _DATABASES:
        return connection

    def value(name: str, default: str | None = None) -> str:
        found = environment.get(ENVIRONMENT + name) or default
        if found is None:
            raise ValueError(f"The metadata is stored in {kind}: set {ENVIRONMENT}{name}.")
        return found

    port = value("PORT", "3306" if kind == "mysql" else "5432")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{ENVIRONMENT}PORT={port!r} is not a port; use a number up to 65535.")
    opened = metadata_store_pb2.ConnectionConfig()
    if kind == "mysql":
        opened.mysql.host = value("HOST")
        opened.mysql.port = int(port)
        opened.mysql.database = value("DATABASE", "tfrec_meta")
        opened.mysql.user = value("USER")
        opened.mysql.password = value("PASSWORD", "")
    else:
        opened.postgresql.host = value("HOST")
        opened.postgresql.port = port
        opened.postgresql.dbname = value("DATABASE", "tfrec_meta")
        opened.postgresql.user = value("USER")
        opened.postgresql.password = value("PASSWORD", "")
    return opened
