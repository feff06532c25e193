"""The memory of all studies: JSON lines in one folder, safe against kills and for many processes.

Imports no TensorFlow, so that a command or a dashboard reads it at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.io.files import PathLike

SCHEMA = 1  # of the records; a reader leaves out what a newer version wrote
STATUSES = ("completed", "failed", "timed_out", "stopped")
_PATIENCE = 60.0  # seconds; whoever holds the lock needs far less
_log = logging.getLogger(__name__)


def studies_folder(folder: PathLike | None = None) -> Path:
    """Where studies are kept: `folder`, else $TFREC_META_STUDIES, else the user's data folder."""
    chosen = folder or os.environ.get("TFREC_META_STUDIES")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, so that a folder that is named needs no look at the home folder

    return Path(platformdirs.user_data_dir("tfrec-meta", appauthor=False)) / "studies"


@dataclasses.dataclass(frozen=True)
class StudyRecord:
    """A study as the store knows it; docs/studies.md says what each field means.

    Attributes:
        trials: in the order in which they were last written, each a dict ready for JSON.
    """

    study_id: str
    schema: int
    space: Sequence[Mapping[str, Any]]
    space_version: int
    objective: str
    direction: str
    protocol: str
    budget_unit: str
    budget: int
    oracle: str
    seed: int | None
    created: str
    source: str
    data: Mapping[str, str]
    profile: Mapping[str, float] | None
    text_embedding: Sequence[float] | None
    trials: tuple[Mapping[str, Any], ...] = ()

    def header(self) -> dict[str, Any]:
        """What `StudyStore.append_study` takes."""
        return {"kind": "study", **{name: getattr(self, name) for name in _HEADER}}

    def ranked(self) -> list[Mapping[str, Any]]:
        """The trials that have a value, best first; of equals the earlier."""
        sign = -1 if self.direction == "max" else 1
        valued = [trial for trial in self.trials if trial["value"] is not None]
        return sorted(valued, key=lambda trial: sign * trial["value"])

    def touched(self) -> datetime:
        """When the last trial ended, or the study began if it has none."""
        times = [self.created, *(trial["ended"] for trial in self.trials)]
        return max(map(datetime.fromisoformat, times))


class StudyStore:
    """All studies of a folder, in `studies.jsonl`: lines are appended, never changed.

    Each append is one write of whole lines under a lock, and is on the disk when it returns; a
    process that is killed in it loses at most what it was writing, and nothing of the others.
    The last record of a study or a trial counts. A line that can't be understood is left out with
    a warning (once a store), and a line that a newer version wrote too; both stay in the file.

    Args:
        folder: see `studies_folder`; made when something is first written.
    """

    def __init__(self, folder: PathLike | None = None):
        self.folder = studies_folder(folder)
        self.path = self.folder / "studies.jsonl"
        self._warned: set[str] = set()

    def append_study(
        self, header: Mapping[str, Any], trials: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Writes a study's header, or a new one in place of it, and any trials in the same write.

        Raises:
            ValueError: naming the field that is missing, of a wrong type or not finite.
        """
        self._append([_checked(header, "study"), *(_checked(trial, "trial") for trial in trials)])

    def append_trial(self, record: Mapping[str, Any]) -> None:
        """Writes a trial; it takes the place of an earlier one with its `trial_id`.

        A trial of a study without a header is kept, and seen once that has one.

        Raises:
            ValueError: as `append_study`.
        """
        self._append([_checked(record, "trial")])

    def studies(self) -> list[StudyRecord]:
        """All studies, in the order in which their headers were last written."""
        contents = _parsed(self._read())
        self._warn(contents)
        return contents.studies()

    def study(self, study_id: str) -> StudyRecord:
        """The study of that id, or the only one whose id begins so.

        Raises:
            ValueError: if there is none, or more than one.
        """
        studies = self.studies()
        found = [study for study in studies if study.study_id == study_id] or [
            study for study in studies if study_id and study.study_id.startswith(study_id)
        ]
        if len(found) == 1:
            return found[0]
        named = ", ".join(study.study_id for study in (found or studies)[:5]) or "none"
        more = f" and {len(found or studies) - 5} more" if len(found or studies) > 5 else ""
        if found:
            raise ValueError(f"{study_id!r} begins {len(found)} studies: {named}{more}. Say more.")
        raise ValueError(f"{self.folder} has no study {study_id!r}; it has {named}{more}.")

    def comparable(self, header: Mapping[str, Any]) -> list[StudyRecord]:
        """The studies that may meet this one in a surrogate, without the study itself.

        Their values mean the same: schema, space version, objective, direction, protocol and
        budget unit agree. They may be of the same data; `data["fingerprint"]` tells.
        """
        return comparable(self.studies(), header)

    def remove(
        self, study: str | StudyRecord, trial_id: str | Collection[str] | None = None
    ) -> None:
        """Takes out a study, or one or some of its trials; `compact` then frees the space.

        Args:
            study: its id or a beginning of it; a record saves reading the file.
            trial_id: of the trials; None for the whole study.

        Raises:
            ValueError: if there is no such study or trial.
        """
        study = self.study(study) if isinstance(study, str) else study
        trials = [trial_id] if trial_id is None or isinstance(trial_id, str) else list(trial_id)
        known = {trial["trial_id"] for trial in study.trials}
        unknown = [trial for trial in trials if trial is not None and trial not in known]
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise ValueError(f"Study {study.study_id} has no trial {named}.")
        removed = {"kind": "removed", "study_id": study.study_id}
        self._append([{**removed, "trial_id": trial} for trial in trials])

    def compact(self) -> int:
        """Rewrites the file without what was removed or written anew; says how many lines went.

        Damaged lines are first copied to `damaged.jsonl`. A kill leaves the old file or the new.
        """
        if not self.path.exists():
            return 0
        with self._locked():
            contents = _parsed(self.path.read_bytes())
            if contents.damaged:
                aside = [contents.lines[number] for number in contents.damaged]
                _append_lines(self.folder / "damaged.jsonl", aside)
            kept = sorted(contents.kept())
            new = self.path.with_name(f".{self.path.name}.new")
            with open(new, "wb") as file:
                file.writelines(contents.lines[number] + b"\n" for number in kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
            _sync_folder(self.folder)
        return sum(map(bool, contents.lines)) - len(kept)

    def _append(self, records: Sequence[Mapping[str, Any]]) -> None:
        if not records:
            return
        lines = [json.dumps(record, allow_nan=False).encode() for record in records]
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            _append_lines(self.path, lines)

    def _read(self) -> bytes:
        if not self.path.exists():
            return b""
        try:
            with self._locked():
                return self.path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return self.path.read_bytes()  # whoever may only read can't lock

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / "studies.lock"
        # A new one each time: one that is kept would let in a second thread, or a forked child.
        lock = FileLock(path, timeout=_PATIENCE, poll_interval=0.005)
        try:
            lock.acquire()
        except Timeout as error:
            raise TimeoutError(
                f"Another process has held {path} for {_PATIENCE:.0f} s; end it, then try again."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _warn(self, contents: _Contents) -> None:
        """Says what was left out, each once a store."""
        warnings = []
        if contents.damaged:
            first, fault = next(iter(contents.damaged.items()))
            warnings.append(
                f"{self.path}: {len(contents.damaged)} damaged line(s) left out, the first is "
                f"line {first + 1}: {fault}. compact() moves them to damaged.jsonl."
            )
        if contents.newer:
            schemas = ", ".join(map(str, sorted(contents.newer_schemas)))
            warnings.append(
                f"{self.path}: {len(contents.newer)} line(s) of schema {schemas} left out; this "
                f"version reads {SCHEMA}. Upgrade tfrec-meta to use them."
            )
        orphans = sum(len(t) for s, t in contents.trials.items() if s not in contents.headers)
        if orphans:
            warnings.append(f"{self.path}: {orphans} trial(s) of unknown studies left out.")
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                _log.warning("%s", warning)


@dataclasses.dataclass
class _Contents:
    """What the lines of a file mean; records go by the number of their line, from 0."""

    lines: list[bytes]
    records: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    headers: dict[str, int] = dataclasses.field(default_factory=dict)
    trials: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    damaged: dict[int, str] = dataclasses.field(default_factory=dict)
    newer: list[int] = dataclasses.field(default_factory=list)
    newer_schemas: set[int] = dataclasses.field(default_factory=set)

    def studies(self) -> list[StudyRecord]:
        studies = []
        for study_id, number in self.headers.items():
            header = self.records[number]
            trials = tuple(self.records[n] for n in self.trials.get(study_id, {}).values())
            studies.append(StudyRecord(**{name: header[name] for name in _HEADER}, trials=trials))
        return studies

    def kept(self) -> Iterator[int]:
        """The lines that count, or that a newer version may understand."""
        yield from self.newer
        yield from self.headers.values()
        for trials in self.trials.values():
            yield from trials.values()


def _parsed(text: bytes) -> _Contents:
    contents = _Contents(text.split(b"\n"))
    newer_studies: set[str] = set()
    for number, line in enumerate(contents.lines):
        if not line:
            continue
        try:
            record = json.loads(line.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            contents.damaged[number] = f"not JSON ({error})"
            continue
        if not isinstance(record, dict):
            contents.damaged[number] = "not a JSON object"
            continue
        study_id = str(record.get("study_id"))
        schema = record.get("schema", SCHEMA)
        is_newer = type(schema) is int and schema > SCHEMA
        if is_newer:
            contents.newer_schemas.add(schema)
            if record.get("kind") == "study":  # what this version wrote of it goes along
                newer_studies.add(study_id)
                contents.newer += contents.trials.pop(study_id, {}).values()
                if study_id in contents.headers:
                    contents.newer.append(contents.headers.pop(study_id))
        if is_newer or study_id in newer_studies:
            contents.newer.append(number)
            continue
        fault = fault_of(record)
        if fault is not None:
            contents.damaged[number] = fault
            continue
        _take(contents, number, record)
    return contents


def _take(contents: _Contents, number: int, record: dict[str, Any]) -> None:
    """The meaning of a sound line after all the lines before it."""
    study_id = record["study_id"]
    if record["kind"] == "removed":
        if record["trial_id"] is None:
            contents.headers.pop(study_id, None)
            contents.trials.pop(study_id, None)
        else:
            contents.trials.get(study_id, {}).pop(record["trial_id"], None)
        return
    contents.records[number] = record
    if record["kind"] == "study":
        contents.headers.pop(study_id, None)  # to the end, where its line is
        contents.headers[study_id] = number
    else:
        trials = contents.trials.setdefault(study_id, {})
        trials.pop(record["trial_id"], None)
        trials[record["trial_id"]] = number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Appends whole lines in one write, and waits until the disk has them.

    Raises:
        OSError: the disk took only a part; what it took is cut off again.
    """
    is_new = not path.exists()
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(file).st_size
        text = b"".join(line + b"\n" for line in lines)
        if size and os.pread(file, 1, size - 1) != b"\n":
            text = b"\n" + text  # a writer was killed in its line
        written = os.write(file, text)
        if written != len(text):
            os.ftruncate(file, size)
            raise OSError(errno.ENOSPC, f"{written} of {len(text)} bytes were taken", str(path))
        os.fsync(file)
    finally:
        os.close(file)
    if is_new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


# --- What a record must be -------------------------------------------------------------------

_Check = tuple[Callable[[Any], bool], str]  # whether a value will do, and what would
_NO_TIME = timedelta(0)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).utcoffset() == _NO_TIME
    except ValueError:
        return False


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_space(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(one, dict)
        and isinstance(one.get("class_name"), str)
        and isinstance(one.get("config"), dict)
        and _is_name(one["config"].get("name"))
        for one in value
    )


def _is_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_number, value))


def _is_data(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("name", "fingerprint", "description")
    )


def _is_profile(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_values(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, (str, bool)) or _is_number(one) for one in value.values()
    )


def _is_expected(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_number(value.get("mean"))
        and _is_number(value.get("std"))
        and value["std"] >= 0
    )


def _or_null(check: _Check) -> _Check:
    holds, words = check
    return (lambda value: value is None or holds(value)), f"{words}, or null"


_NAME: _Check = (_is_name, "a text that is not empty")
_NUMBER: _Check = (_is_number, "a finite number")
_WHOLE: _Check = (lambda value: type(value) is int, "a whole number")
_COUNT: _Check = (_is_count, "a whole number, 0 or more")
_TIME: _Check = (_is_time, "an ISO 8601 time in UTC, as 2026-01-31T12:00:00+00:00")
_NUMBERS: _Check = (_is_numbers, "a list of finite numbers")

_PROTOCOLS = [protocol.value for protocol in ValidationProtocol]

_HEADER: dict[str, _Check] = {
    "study_id": _NAME,
    "schema": (lambda value: type(value) is int and 1 <= value <= SCHEMA, f"1 to {SCHEMA}"),
    "space": (_is_space, "KerasTuner's list of {class_name, config: {name, ...}}"),
    "space_version": _COUNT,
    "objective": _NAME,
    "direction": (lambda value: value in ("max", "min"), "max or min"),
    "protocol": (
        lambda value: value in _PROTOCOLS,
        f"one of {', '.join(_PROTOCOLS)}; version 0.1 wrote sentences",
    ),
    "budget_unit": _NAME,
    "budget": _COUNT,
    "oracle": _NAME,
    "seed": _or_null(_WHOLE),
    "created": _TIME,
    "source": _NAME,
    "data": (_is_data, "texts by name, fingerprint and description"),
    "profile": _or_null((_is_profile, "finite numbers by name")),
    "text_embedding": _or_null(_NUMBERS),
}
_TRIAL: dict[str, _Check] = {
    "study_id": _NAME,
    "trial_id": _NAME,
    "values": (_is_values, "texts, booleans and finite numbers by name"),
    "strategy": _or_null((lambda value: isinstance(value, dict), "an object")),
    "value": _or_null(_NUMBER),
    "status": (lambda value: value in STATUSES, f"one of {', '.join(STATUSES)}"),
    "error": _or_null((lambda value: isinstance(value, str), "a text")),
    "curve": _NUMBERS,
    "budget": _COUNT,
    "seconds": (lambda value: _is_number(value) and value >= 0, "a finite number, 0 or more"),
    "seed": _or_null(_WHOLE),
    "ended": _TIME,
    "suggested_by": _or_null(_NAME),
    "expected": _or_null((_is_expected, "finite numbers mean and std, the latter 0 or more")),
}
_REMOVED: dict[str, _Check] = {"study_id": _NAME, "trial_id": _or_null(_NAME)}
_KINDS = {"study": _HEADER, "trial": _TRIAL, "removed": _REMOVED}

COMPARED = ("schema", "space_version", "objective", "direction", "protocol", "budget_unit")
"""The fields that studies must share for their values to be comparable."""


def comparable(studies: Iterable[StudyRecord], header: Mapping[str, Any]) -> list[StudyRecord]:
    """Those of the studies whose values mean what this one's do, without the study itself."""
    return [
        study
        for study in studies
        if study.study_id != header["study_id"]
        and all(getattr(study, name) == header[name] for name in COMPARED)
    ]


def fault_of(record: Mapping[str, Any]) -> str | None:
    """What is wrong with a record, naming the field; None if nothing is."""
    kind = record.get("kind")
    checks = _KINDS.get(kind) if isinstance(kind, str) else None
    if checks is None:
        return f"`kind`={_short(kind)}; use {', '.join(_KINDS)}"
    for name, (holds, words) in checks.items():
        if name not in record:
            return f"a {kind} without `{name}`"
        if not holds(record[name]):
            return f"`{name}`={_short(record[name])} of a {kind}; use {words}"
    if kind == "trial":
        status, value = record["status"], record["value"]
        if (status in ("completed", "stopped") and value is None) or (
            status == "failed" and value is not None
        ):
            return f"`value`={value} of a trial whose `status` is {status}"
    return None


def _checked(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    record = dict(record)
    fault = fault_of(record)
    if fault is None and record["kind"] != kind:
        fault = f"`kind`={record['kind']!r}; use {kind!r}"
    if fault is None:
        for name, value in record.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                fault = f"`{name}`={_short(value)} is not JSON: {error}"
                break
    if fault is not None:
        raise ValueError(f"{fault}.")
    return record


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
