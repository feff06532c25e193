"""Reads and writes the files of `tfrec-meta studies import` and `export`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec_meta.io.files import atomic_file

if TYPE_CHECKING:
    import pyarrow as pa

    from tfrec_meta.tuning.studies.records import StudyRecord

FORMATS = (".json", ".parquet", ".csv")


def as_record(study: StudyRecord) -> dict[str, Any]:
    """Returns the header of a study with its trials."""
    return {**study.header(), "trials": list(study.trials)}


def write(studies: Sequence[StudyRecord], path: Path) -> None:
    """Writes studies as JSON, or their trials as Parquet or CSV, by the ending of `path`."""
    with atomic_file(path) as new:
        if path.suffix == ".json":
            record = {"studies": [as_record(study) for study in studies]}
            new.write_text(json.dumps(record, indent=1), encoding="utf-8")
        elif path.suffix == ".parquet":
            from pyarrow import parquet

            parquet.write_table(trial_table(studies, lists=True), new)
        else:
            from pyarrow import csv

            csv.write_csv(trial_table(studies, lists=False), new)


def read(
    path: Path, *, objective: str | None, direction: str | None, epochs: int | None
) -> Iterable[tuple[dict[str, Any], list[Any]]]:
    """Reads the headers and trials of studies.

    Args:
        path: a JSON file of `write`, the folder of a store or of a KerasTuner project, or the
            output folder of a TFX Tuner.
        objective: the metric that was searched, if the files do not name it.
        direction: whether the larger ("max") or the smaller ("min") value of it is better.
        epochs: those of a full trial.

    Raises:
        FileNotFoundError: if `path` does not exist.
        ValueError: if it holds something else.
    """
    from tfrec_meta.tuning.studies.keras_tuner_import import read_keras_tuner
    from tfrec_meta.tuning.studies.store import StudyStore
    from tfrec_meta.tuning.studies.tfx_import import read_tfx

    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if path.is_file():
        return _read_json(path)
    if (path / "studies.jsonl").is_file():
        studies = StudyStore(path).studies()
        return [(study.header(), list(study.trials)) for study in studies]
    if (path / "oracle.json").is_file():
        return [read_keras_tuner(path, objective=objective, epochs=epochs)]
    return [read_tfx(path, objective=objective, direction=direction, epochs=epochs)]


def _read_json(path: Path) -> list[tuple[dict[str, Any], list[Any]]]:
    from tfrec_meta.tuning.studies.migration import migrated
    from tfrec_meta.tuning.studies.records import record_problem

    try:
        studies = json.loads(path.read_text(encoding="utf-8"))["studies"]
        found = [(migrated(study), list(study["trials"])) for study in studies]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a JSON file of `tfrec-meta studies export`. Parquet and CSV exports "
            "are for analysis and can't be imported."
        ) from error
    for header, trials in found:
        del header["trials"]
        for record in (header, *trials):
            problem = (
                record_problem(record)
                if isinstance(record, dict)
                else f"{record!r} is not an object"
            )
            if problem is None and record["study_id"] != header["study_id"]:
                problem = f"`study_id`={record['study_id']!r} in study {header['study_id']!r}"
            if problem is not None:
                raise ValueError(f"{path}: {problem}. Nothing was imported.")
    return found


def trial_table(studies: Sequence[StudyRecord], *, lists: bool) -> pa.Table:
    """Returns a table with one row per trial, next to the facts about its study.

    Args:
        studies: the studies.
        lists: whether learning curves are lists of numbers; else they are JSON texts.
    """
    import pyarrow as pa

    pairs = [(study, trial) for study in studies for trial in study.trials]
    of_study = ("study_id", "objective", "direction", "protocol", "budget_unit", "oracle", "source")
    of_trial = ("trial_id", "value", "status", "error", "budget", "seconds", "seed", "ended")
    columns: dict[str, Any] = {
        **{name: [getattr(study, name) for study, _ in pairs] for name in of_study},
        "data": [study.data["name"] for study, _ in pairs],
        "fingerprint": [study.data["fingerprint"] for study, _ in pairs],
        **{name: [trial[name] for _, trial in pairs] for name in of_trial},
        "suggested_by": [trial["suggested_by"] for _, trial in pairs],
    }
    for part in ("mean", "std"):
        expected = [trial["expected"] for _, trial in pairs]
        columns[f"expected_{part}"] = [one and float(one[part]) for one in expected]
    curves = [[float(value) for value in trial["curve"]] for _, trial in pairs]
    columns["curve"] = (
        pa.array(curves, pa.list_(pa.float64())) if lists else [json.dumps(one) for one in curves]
    )
    for name in {name: None for _, trial in pairs for name in trial["values"]}:
        columns[f"values/{name}"] = [trial["values"].get(name) for _, trial in pairs]
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: Any) -> pa.Array:
    """Makes a column; of text where the values have several types, as in studies that differ."""
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values
    try:
        column = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        column = pa.array([None if one is None else json.dumps(one) for one in values])
    return column.cast(pa.string()) if pa.types.is_null(column.type) else column


def with_given_facts(
    header: Mapping[str, Any],
    *,
    name: str | None,
    fingerprint: str | None,
    protocol: str | None,
    space_version: int | None,
) -> dict[str, Any]:
    """Returns a header with the facts that the command line gives in place of its own."""
    data = {
        **header["data"],
        **({"name": name} if name else {}),
        **({"fingerprint": fingerprint} if fingerprint else {}),
    }
    given = {"protocol": protocol, "space_version": space_version}
    changes = {key: value for key, value in given.items() if value is not None}
    return {**header, **changes, "data": data}
