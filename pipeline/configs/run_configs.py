"""The config file of a run as the config of a pipeline: the same events, split and strategy.

Settings of the pipeline itself, such as its name or its gates, are in the file's group `pipeline`,
in the form of `PipelineConfig`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.data.column_types import TABLE_PREFIXES
from tfrec_meta.data.places.files import data_files
from tfrec_meta.data.places.queries import is_database
from tfrec_meta.data.protocols import SplitProtocol
from tfrec_meta.data.sources.formats import suffix_of
from tfrec_meta.io.stores import AnyPath
from tfrec_meta.workflows.configs.config_files import (
    EVALUATION,
    EXPORT,
    PIPELINE,
    read_config,
    run_part,
)
from tfrec_meta.workflows.configs.split_settings import fill_shares
from tfrec_meta.workflows.run_settings import FORMAT_SETTINGS, complete_settings, is_named_source

Record = dict[str, Any]

_KEYS_OF_PIPELINES = ("name", "serving", "root")
_TABLES: Mapping[str, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id"),
    "users": ("user_id",),
    "items": ("item_id",),
}
# The settings of the data that a pipeline has for all tables, and those of each table.
_OF_DATA = (
    "time_unit",
    "time_format",
    "bad_rows",
    "max_bad_share",
    "pseudonyms",
    "clean",
    "sessions",
    "needs",
)
_OF_TABLES = tuple(name for name in FORMAT_SETTINGS if name not in _OF_DATA)
# Values that the group `pipeline` may set in place of those that follow from the rest of the file.
_OWN = (
    "name",
    "serving",
    "tuner.enabled",
    *(f"data.{table}.path" for table in _TABLES),
)
# What is compared and replaced as a whole.
_WHOLE = ("feedback", "data.clean", "trainer.strategy", "trainer.export")
# Where a setting of a pipeline comes from, by the beginning of its name.
_ORIGINS = {
    "split.history_length": "strategy.history_length",
    "trainer.strategy": "strategy",
    "trainer.export": EXPORT,
    "evaluator.k": f"{EVALUATION}.k",
    "data.interactions.columns": "data.columns",
    "data.users.columns": "data.columns",
    "data.items.columns": "data.columns",
}


def is_run_config(record: Mapping[str, Any]) -> bool:
    """Returns whether a file's record is the config of a run and not that of a pipeline."""
    data = record.get("data")
    has_tables = isinstance(data, Mapping) and "interactions" in data
    return not has_tables and not set(_KEYS_OF_PIPELINES) & set(record)


def pipeline_record(path: Path | str) -> Record:
    """Returns the record of a `PipelineConfig` that does what the config of a run says.

    Args:
        path: a YAML file, as for `train --config`. Without `pipeline.name`, the pipeline has the
            name of the file, and without `pipeline.serving`, it serves `models/<name>`. It searches
            for a strategy only if the file has `pipeline.tuner`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: as `read_config`; for a setting that a pipeline does not have, with the way out;
            or if the group `pipeline` contradicts the rest of the file.
    """
    config = read_config(path)
    own = config.get(PIPELINE, {})
    settings = complete_settings(run_part(config))
    try:
        data = _data(settings["data"], own.get("data"))
        strategy = {"family": "two_tower", **settings["strategy"]}
        name = own.get("name", Path(path).stem)
        record: Record = {
            "name": name,
            "serving": f"models/{name}",
            "data": data,
            "feedback": settings["feedback"] or None,
            "recommend_history": settings["recommend_history"],
            "split": _split(settings["split"], strategy),
            "tuner": {"enabled": "tuner" in own, "families": [strategy["family"]]},
            "trainer": {"strategy": strategy},
            "seed": settings["seed"],
        }
        if EXPORT in config:
            record["trainer"][EXPORT] = config[EXPORT]
        if "k" in config.get(EVALUATION, {}):
            record["evaluator"] = {"k": config[EVALUATION]["k"]}
        return _with_own(record, own)
    except ValueError as error:
        raise ValueError(f"{path}, as the config of a pipeline: {error}") from error


def _split(split: Mapping[str, Any], strategy: Mapping[str, Any]) -> Record:
    """The "split" part of the record. Without a protocol it is by time, as in runs with times."""
    shares = fill_shares({**split, "protocol": split["protocol"] or SplitProtocol.TIME.value})
    shares["history_length"] = strategy.get("history_length")
    return {name: value for name, value in shares.items() if value is not None}


def _data(data: Record, own: Any) -> Record:
    """The "data" part of the record; `own` is that of the group `pipeline`."""
    record: Record = {name: data[name] for name in _OF_DATA}
    form = {name: data[name] for name in _OF_TABLES}
    for table, keys in _TABLES.items():
        is_log = table == "interactions"
        if not is_log and data[table] is None:
            record[table] = None
            continue
        part = own.get(table) if isinstance(own, Mapping) else None
        path = part.get("path") if isinstance(part, Mapping) else None
        path = path or (_pattern(data["source"]) if is_log else _escaped(data[table]))
        columns = dict(_columns(data, table, keys))
        record[table] = {"path": path, "columns": columns, **form}
    return record


def _columns(data: Record, table: str, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The named columns of one table, by our names."""
    for ours, theirs in data["columns"].items():
        if ours.startswith(f"{table}."):
            yield ours.removeprefix(f"{table}."), theirs
        elif ours in keys or (table == "interactions" and not ours.startswith(TABLE_PREFIXES)):
            yield ours, theirs


def _pattern(sources: Sequence[str]) -> str:
    """The glob pattern of the files of a table."""
    way_out = "use a pattern such as logs/*.csv, or set `pipeline.data.interactions.path`."
    if len(sources) > 1:
        raise ValueError(
            f"`data.source` has {len(sources)} entries, but a pipeline reads one pattern: {way_out}"
        )
    source = sources[0]
    is_table = Path(source, "interactions.json").is_file()
    if is_named_source(source) or is_database(source) or is_table:
        raise ValueError(
            f"`data.source`={source!r} is not a log that a pipeline can read. Write the events to "
            f"a Parquet file; {way_out}"
        )
    if os.path.isdir(source):
        files = data_files([source])
        endings = {"".join(_endings(file)) for file in files}
        if len(endings) > 1:
            raise ValueError(
                f"`data.source`={source!r} has files that end in {' and '.join(sorted(endings))}; "
                f"{way_out}"
            )
        return os.path.join(glob.escape(source), f"*{endings.pop()}")
    if "**" in source:
        raise ValueError(
            f"`data.source`={source!r} has `**`, which a pipeline does not know; {way_out}"
        )
    return _escaped(source)


def _escaped(path: str) -> str:
    """The glob pattern of a path: of a file, or a pattern."""
    return glob.escape(path) if os.path.isfile(path) else path


def _endings(file: AnyPath) -> tuple[str, ...]:
    """The suffixes that give the format of a data file, as .csv and .gz."""
    suffix = suffix_of(file)
    return tuple(file.suffixes[-1:]) if file.suffix.lower() == suffix else tuple(file.suffixes[-2:])


def _with_own(record: Record, own: Mapping[str, Any], prefix: str = "") -> Record:
    """Returns a record with the settings of the group `pipeline`, which may not contradict it."""
    result = dict(record)
    for key, value in own.items():
        path = f"{prefix}{key}"
        known = result.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping) and path not in _WHOLE:
            result[key] = _with_own(dict(known), value, f"{path}.")
        elif (
            key in result and path not in _OWN and not path.startswith("tuner.") and known != value
        ):
            origin = next((o for start, o in _ORIGINS.items() if path.startswith(start)), path)
            raise ValueError(
                f"`{PIPELINE}.{path}`={value!r}, but with `{origin}` of the file it is {known!r}. "
                f"Leave out `{PIPELINE}.{path}`, and set `{origin}`."
            )
        else:
            result[key] = value
    return result
