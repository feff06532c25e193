"""The folder of written interactions: Parquet files, and `interactions.json` about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tfrec_meta.io.damage import DamagedFile, read_json
from tfrec_meta.io.files import atomic_folder

_ABOUT = "interactions.json"
_FORMAT = 1
_AGAIN = "Write the data again"


def write_tables(
    folder: Path, tables: Mapping[str, pa.Table | None], about: Mapping[str, Any], overwrite: bool
) -> Path:
    """Writes tables and a record about them; `folder` appears only when it is complete.

    Args:
        folder: the new folder.
        tables: by the name of their files; None is not written.
        about: values for JSON.
        overwrite: whether an existing folder is replaced.

    Returns:
        The folder.

    Raises:
        FileExistsError: if `folder` exists and `overwrite` is false.
    """
    import pyarrow.parquet as pq

    with atomic_folder(folder, overwrite=overwrite) as work:
        for name, table in tables.items():
            if table is not None:
                pq.write_table(table, work / f"{name}.parquet")
        record = {"format": _FORMAT, **about}
        (work / _ABOUT).write_text(json.dumps(record, indent=2) + "\n")
    return folder


def read_tables(folder: Path) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Reads the tables "events", "users" and "items" and the record that `write_tables` wrote.

    Raises:
        FileNotFoundError: if a required file is missing.
        ValueError: if a file is damaged or has another format.
    """
    import pyarrow.parquet as pq

    path = folder / _ABOUT
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; give a folder that `Interactions.write` wrote."
        )
    about = read_json(path, _AGAIN, ("format",))
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"{path} is of format {about.get('format')}, this version reads {_FORMAT}; "
            "use the version of tfrec-meta that wrote it."
        )
    for name in ("name", "dropped"):
        if name not in about:
            raise DamagedFile(path, f"it has no {name!r}", _AGAIN)
    tables = {}
    for name in ("events", "users", "items"):
        path = folder / f"{name}.parquet"
        if name == "events" and not path.is_file():
            raise FileNotFoundError(f"{path} is missing; write the data again.")
        if path.is_file():
            try:
                tables[name] = pq.read_table(path)
            except (pa.ArrowInvalid, OSError) as error:
                reason = f"{path} is damaged: {str(error).splitlines()[0]}"
                raise ValueError(f"{reason}; write the data again.") from error
    return tables, about
