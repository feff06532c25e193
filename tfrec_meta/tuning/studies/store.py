"""The store of all studies: JSON lines in one folder, safe against kills and concurrent processes.

This module does not import TensorFlow, so that commands and dashboards start quickly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tfrec_meta.io.files import PathLike
from tfrec_meta.io.logs import logger
from tfrec_meta.tuning.studies.jsonl_file import append_lines, replace_lines
from tfrec_meta.tuning.studies.migration import migrated
from tfrec_meta.tuning.studies.records import (
    SCHEMA,
    StudyRecord,
    checked,
    comparable,
    record_problem,
)

_PATIENCE = 60.0  # seconds to wait for the lock; a holder needs far less
_log = logger(__name__)


def studies_folder(folder: PathLike | None = None) -> Path:
    """Returns the folder of a store.

    Args:
        folder: of the store; by default $TFREC_META_STUDIES, else the user's data folder.
    """
    chosen = folder or os.environ.get("TFREC_META_STUDIES")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, because a named folder needs no home folder

    return Path(platformdirs.user_data_dir("tfrec-meta", appauthor=False)) / "studies"


class StudyStore:
    """All studies of a folder, in `studies.jsonl`; lines are appended and never changed.

    Each append writes whole lines under a lock, and returns when they are on the disk. A process
    that is killed loses at most what it was writing. The last record of a study or a trial counts.
    Invalid lines and lines of a newer version are left out with one warning per store object; they
    stay in the file.

    Args:
        folder: see `studies_folder`; created at the first write.
    """

    def __init__(self, folder: PathLike | None = None):
        self.folder = studies_folder(folder)
        self.path = self.folder / "studies.jsonl"
        self._warned: set[str] = set()

    def append_study(
        self, header: Mapping[str, Any], trials: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Writes a study's header, and trials in the same write.

        The header replaces an earlier one. A header of schema 1 is converted first.

        Args:
            header: see docs/studies.md.
            trials: of the study.

        Raises:
            ValueError: naming a field that is missing, has a wrong type or is not finite.
        """
        records = [checked(migrated(header), "study")]
        self._append([*records, *(checked(trial, "trial") for trial in trials)])

    def append_trial(self, record: Mapping[str, Any]) -> None:
        """Writes a trial, which replaces an earlier one with its `trial_id`.

        A trial of a study without a header is kept, and appears once the study has a header.

        Raises:
            ValueError: as `append_study`.
        """
        self._append([checked(record, "trial")])

    def studies(self) -> list[StudyRecord]:
        """Returns all studies, in the order in which their headers were last written."""
        contents = _parse(self._read())
        self._warn(contents)
        return contents.studies()

    def study(self, study_id: str) -> StudyRecord:
        """Returns the study with this id, or the only study whose id starts with it.

        Raises:
            ValueError: if there is no such study, or more than one.
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
            raise ValueError(
                f"{len(found)} studies start with {study_id!r}: {named}{more}. Use a longer id."
            )
        raise ValueError(
            f"{self.folder} has no study {study_id!r}; use the id of a study: {named}{more}."
        )

    def comparable(self, header: Mapping[str, Any]) -> list[StudyRecord]:
        """Returns the studies that a surrogate may combine with this one, without the study itself.

        Schema, space version, objective, direction, protocol and budget unit agree. The studies
        may have the same data; compare `data["fingerprint"]`.
        """
        return comparable(self.studies(), header)

    def remove(
        self, study: str | StudyRecord, trial_id: str | Collection[str] | None = None
    ) -> None:
        """Removes a study, or some of its trials; `compact` then frees the space.

        Args:
            study: its id or the start of it; passing a record avoids reading the file.
            trial_id: of the trials; None removes the whole study.

        Raises:
            ValueError: if there is no such study or trial.
        """
        study = self.study(study) if isinstance(study, str) else study
        trials = [trial_id] if trial_id is None or isinstance(trial_id, str) else list(trial_id)
        known = {trial["trial_id"] for trial in study.trials}
        unknown = [trial for trial in trials if trial is not None and trial not in known]
        if unknown:
            named = ", ".join(map(repr, unknown))
            raise ValueError(f"Study {study.study_id} has no trial {named}; use ids of its trials.")
        removed = {"kind": "removed", "study_id": study.study_id}
        self._append([{**removed, "trial_id": trial} for trial in trials])

    def compact(self) -> int:
        """Rewrites the file without removed and replaced lines.

        Invalid lines are first copied to `damaged.jsonl`. A kill leaves the old or the new file.

        Returns:
            The number of lines that were dropped.
        """
        if not self.path.exists():
            return 0
        with self._locked():
            contents = _parse(self.path.read_bytes())
            if contents.damaged:
                damaged = [contents.lines[number] for number in contents.damaged]
                append_lines(self.folder / "damaged.jsonl", damaged)
            kept = sorted(contents.kept())
            replace_lines(self.path, [contents.lines[number] for number in kept])
        return sum(map(bool, contents.lines)) - len(kept)

    def _append(self, records: Sequence[Mapping[str, Any]]) -> None:
        if not records:
            return
        lines = [json.dumps(record, allow_nan=False).encode() for record in records]
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            append_lines(self.path, lines)

    def _read(self) -> bytes:
        if not self.path.exists():
            return b""
        try:
            with self._locked():
                return self.path.read_bytes()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return self.path.read_bytes()  # without write permission there can be no lock

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.folder / "studies.lock"
        # A new lock each time: a shared one would admit a second thread or a forked child.
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
        """Logs what was left out; each warning only once per store object."""
        warnings = []
        if contents.damaged:
            first, problem = next(iter(contents.damaged.items()))
            warnings.append(
                f"{self.path}: {len(contents.damaged)} invalid line(s) left out. The first is "
                f"line {first + 1}: {problem}. compact() moves them to damaged.jsonl."
            )
        if contents.newer:
            schemas = ", ".join(map(str, sorted(contents.newer_schemas)))
            warnings.append(
                f"{self.path}: {len(contents.newer)} line(s) of schema {schemas} left out; this "
                f"version reads schemas up to {SCHEMA}. Upgrade tfrec-meta to use them."
            )
        orphans = sum(len(t) for s, t in contents.trials.items() if s not in contents.headers)
        if orphans:
            warnings.append(
                f"{self.path}: {orphans} trial(s) of studies without a header left out."
            )
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                _log.warning("%s", warning)


@dataclasses.dataclass
class _Contents:
    """The meaning of a file's lines; records are identified by line number, counted from 0."""

    lines: list[bytes]
    records: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    headers: dict[str, int] = dataclasses.field(default_factory=dict)
    trials: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    damaged: dict[int, str] = dataclasses.field(default_factory=dict)
    newer: list[int] = dataclasses.field(default_factory=list)
    newer_schemas: set[int] = dataclasses.field(default_factory=set)

    def studies(self) -> list[StudyRecord]:
        return [
            StudyRecord.from_records(
                self.records[number],
                (self.records[n] for n in self.trials.get(study_id, {}).values()),
            )
            for study_id, number in self.headers.items()
        ]

    def kept(self) -> Iterator[int]:
        """Yields the lines that count, and those that a newer version may be able to read."""
        yield from self.newer
        yield from self.headers.values()
        for trials in self.trials.values():
            yield from trials.values()

    def add(self, number: int, record: dict[str, Any]) -> None:
        """Adds a valid record, which may replace or remove earlier ones."""
        study_id = record["study_id"]
        if record["kind"] == "removed":
            if record["trial_id"] is None:
                self.headers.pop(study_id, None)
                self.trials.pop(study_id, None)
            else:
                self.trials.get(study_id, {}).pop(record["trial_id"], None)
            return
        self.records[number] = record
        if record["kind"] == "study":
            self.headers.pop(study_id, None)  # a replaced header moves to the end
            self.headers[study_id] = number
        else:
            trials = self.trials.setdefault(study_id, {})
            trials.pop(record["trial_id"], None)
            trials[record["trial_id"]] = number


def _parse(text: bytes) -> _Contents:
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
            if record.get("kind") == "study":  # earlier lines of the study count as newer, too
                newer_studies.add(study_id)
                contents.newer += contents.trials.pop(study_id, {}).values()
                if study_id in contents.headers:
                    contents.newer.append(contents.headers.pop(study_id))
        if is_newer or study_id in newer_studies:
            contents.newer.append(number)
            continue
        record = migrated(record)
        problem = record_problem(record)
        if problem is None:
            contents.add(number, record)
        else:
            contents.damaged[number] = problem
    return contents


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a finite number")
