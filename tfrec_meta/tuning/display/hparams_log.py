"""Writes a study to TensorBoard's HParams: the space, and one run per trial."""

from __future__ import annotations

import datetime
import json
import math
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.io.files import atomic_folder
from tfrec_meta.tuning.studies.trial_records import (
    Parameter,
    active_values,
    objective_value,
    parameters,
)

_RECORD = "record.json"  # the record that a run's events were written from
_MOST_STEPS = 200  # values of a stepped range that are listed; longer ranges are intervals


def write_hparams(
    folder: Path | str, header: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> Path:
    """Writes a study; open it with `tensorboard --logdir FOLDER`.

    A second call only rewrites the trials whose records have changed.

    Args:
        folder: of the study's logs; created if it does not exist.
        header: the study's record.
        trials: records of its trials.

    Returns:
        The folder.

    Raises:
        ValueError: for a hyperparameter value that is not str, float, int or bool.
    """
    for trial in trials:
        log_trial(folder, header, trial)
    _log_experiment(Path(folder), header)
    return Path(folder)


def log_trial(folder: Path | str, header: Mapping[str, Any], trial: Mapping[str, Any]) -> Path:
    """Writes one trial as a run, unless the same record was written before.

    The objective is a scalar at the step of the trial's budget. The learning curve is a scalar per
    unit of budget, under `curve/`, and the duration in seconds is another scalar.

    Args:
        folder: of the study's logs.
        header: the study's record.
        trial: the trial's record.

    Returns:
        The run's folder.

    Raises:
        ValueError: for a hyperparameter value that is not str, float, int or bool.
    """
    folder, objective = Path(folder), header["objective"]
    values = active_values(header["space"], trial["values"])
    for name, value in values.items():
        if not isinstance(value, (str, float, int, bool)):
            raise ValueError(
                f"Trial {trial['trial_id']} has {name}={value!r}, a {type(value).__name__}. "
                "Use str, float, int or bool; TensorBoard takes no others."
            )
    _log_experiment(folder, header)
    run = folder / f"trial-{urllib.parse.quote(str(trial['trial_id']), safe='')}"
    record = {
        "objective": objective,
        "values": values,
        **{
            key: trial.get(key)
            for key in ("value", "status", "curve", "budget", "seconds", "ended")
        },
    }

    def write(writer: Any) -> None:
        from tensorboard.plugins.hparams import api, api_pb2, summary

        ended = _seconds_since_epoch(trial.get("ended"))
        began = ended - (trial.get("seconds") or 0.0)
        found = objective_value(trial)
        writer.add(api.hparams_pb(values, trial_id=str(trial["trial_id"]), start_time_secs=began))
        for step, value in enumerate(trial.get("curve") or (), start=1):
            if isinstance(value, (int, float)) and math.isfinite(value):
                writer.scalar(f"curve/{objective}", value, step)
        if found is not None:
            writer.scalar(objective, found, int(trial.get("budget") or 0))
        writer.scalar("seconds", trial.get("seconds") or 0.0, 0)
        status = api_pb2.STATUS_FAILURE if found is None else api_pb2.STATUS_SUCCESS
        writer.add(summary.session_end_pb(status, ended))

    _write_once(run, record, write)
    return run


def _log_experiment(folder: Path, header: Mapping[str, Any]) -> None:
    """Writes the space and the objective, which define TensorBoard's columns and filters."""
    record = {key: header[key] for key in ("space", "objective")}

    def write(writer: Any) -> None:
        from tensorboard.plugins.hparams import api

        known = parameters(header["space"]).values()
        hparams = [api.HParam(p.name, _domain(p), display_name=p.short) for p in known]
        metrics = [api.Metric(header["objective"]), api.Metric("seconds")]
        created = _seconds_since_epoch(header.get("created"))
        writer.add(api.hparams_config_pb(hparams, metrics, time_created_secs=created))

    _write_once(folder / "space", record, write)


def _domain(parameter: Parameter) -> Any:
    from tensorboard.plugins.hparams import api

    low, high = parameter.low, parameter.high
    if low is None or high is None:
        choices = list(parameter.choices)
        kinds = {type(choice) for choice in choices}
        if kinds == {int, float}:
            choices, kinds = [float(choice) for choice in choices], {float}
        # TensorBoard has no domain for values of mixed types.
        return (
            api.Discrete(choices) if len(kinds) == 1 and kinds <= {int, float, str, bool} else None
        )
    steps = _steps(low, high, parameter)
    if steps is not None:
        return api.Discrete([round(s) if parameter.whole else s for s in steps])
    if parameter.whole:
        return api.IntInterval(int(low), int(high))
    return api.RealInterval(float(low), float(high))


def _steps(low: float, high: float, parameter: Parameter) -> list[float] | None:
    """Returns the values of a stepped range; None for a continuous range or too many values."""
    step = parameter.step
    if step is None or (parameter.whole and not parameter.log and step == 1):
        return None
    count = math.log(high / low, step) if parameter.log else (high - low) / step
    if not count + 1 <= _MOST_STEPS:
        return None
    numbers = range(int(count + 1e-8) + 1)
    return [float(low * step**n if parameter.log else low + n * step) for n in numbers]


class _Writer:
    """Writes summaries into one event file."""

    def __init__(self, folder: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._file = EventFileWriter(str(folder))

    def add(self, summary: Any, step: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(step=step)
        # Some of TensorBoard's functions give TensorFlow's message of the same form.
        event.summary.ParseFromString(summary.SerializeToString())
        self._file.add_event(event)

    def scalar(self, tag: str, value: float, step: int) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self.add(scalar_pb(tag, value), step)

    def close(self) -> None:
        self._file.close()


def _write_once(run: Path, record: Mapping[str, Any], write: Callable[[Any], None]) -> None:
    """Writes a run's folder atomically, unless it was written from the same record."""
    text = json.dumps(record, sort_keys=True)
    written = run / _RECORD
    if written.exists() and written.read_text(encoding="utf-8") == text:
        return
    with atomic_folder(run, overwrite=True) as work:
        writer = _Writer(work)
        try:
            write(writer)
        finally:
            writer.close()
        (work / _RECORD).write_text(text, encoding="utf-8")


def _seconds_since_epoch(moment: str | None) -> float:
    if not moment:
        return 0.0
    return datetime.datetime.fromisoformat(moment).timestamp()
