"""The page that a run leaves: what ran, what the data looked like, what was found and decided.

    python -m tfrec_meta.pipeline.pages.run_page --run .runs/films/runs/2026-11-22-101500.000000

Self-contained, with neither script nor network; beside it, `runs/index.html` lists all runs. A run
that failed, or is still under way, has its page too.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import __version__
from tfrec_meta.pipeline.pages import run_records as reading
from tfrec_meta.pipeline.pages.graph_layout import layered
from tfrec_meta.pipeline.pages.run_records import Artifact, MissingError, Node, Run, State
from tfrec_meta.reports import charts, formats, page

PAGE = "index.html"
# Drawn in a box of 12 by 12, as not every font has such signs.
_MARKS: dict[State, str] = {
    "ran": "M2,6.5 L5,9.5 L10,2.5",
    "cached": "M2,4 H10 M2,8 H10",
    "skipped": "M2,6 H10",
    "failed": "M2.5,2.5 L9.5,9.5 M9.5,2.5 L2.5,9.5",
    "not reached": "M6,2 A4,4 0 1 1 5.99,2",
}
_MEANINGS: dict[State, str] = {
    "ran": "in this run",
    "cached": "from an earlier run, as what they read is unchanged",
    "skipped": "with nothing to do",
    "failed": "with an error",
    "not reached": "by this run",
}
_BOX = (192.0, 46.0)
_VERSIONS = (
    "tensorflow",
    "tf-keras",
    "tfx",
    "keras-tuner",
    "apache-beam",
    "tensorflow-recommenders",
    "ml-metadata",
    "numpy",
    "pyarrow",
)
_MOST_FEATURES = 100
_MOST_BARS = 24
_MOST_TRIALS = 200
_MOST_LINES = 15


def write_run_page(run_folder: Path | str) -> Path:
    """Writes `<run folder>/index.html`, and the list of runs beside the run's folder.

    Args:
        run_folder: with what there is of `pipeline.json` (the compiled pipeline), `nodes.jsonl` (a
            record a node) and `config.json`; artifacts are read where the records say.

    Returns:
        The page's path.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    run = reading.read_run(run_folder)
    written = page.write(run.folder / PAGE, render(run))
    write_list(run.folder.parent)
    return written


def render(run: Run) -> str:
    """The page as a string."""
    return page.render(
        "run.html",
        title=f"Run {run.id}" + (f" of {run.pipeline}" if run.pipeline else ""),
        pipeline=run.pipeline,
        headline=_headline(run),
        failures=[_failure(node) for node in run.failed],
        lacks=run.lacks,
        times=_times(run),
        counts=_counts(run),
        graph=_graph(run),
        nodes=_nodes(run),
        tables=_tables(run),
        gates=_data_gates(run),
        search=_search(run),
        ranking=_ranking(run),
        infra=_infra(run),
        push=_push(run),
        config=[(key, formats.value(value)) for key, value in formats.flatten(run.config)],
        versions=_versions(),
    )


def write_list(folder: Path | str) -> Path:
    """Writes the list of the runs in `<pipeline's folder>/runs`."""
    folder = Path(folder).absolute()
    runs = []
    for inner in folder.iterdir():
        if inner.is_dir() and any(
            (inner / name).exists() for name in ("nodes.jsonl", "pipeline.json")
        ):
            runs.append(reading.read_run(inner))
    earliest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    runs.sort(key=lambda run: (run.began or earliest, run.id), reverse=True)
    name = next((run.pipeline for run in runs if run.pipeline), "")
    text = page.render(
        "runs.html",
        title=f"Runs of {name}" if name else "Runs",
        runs=[_listed(run) for run in runs],
    )
    return page.write(folder / PAGE, text)


def _listed(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "link": f"{_quoted(run.id)}/{PAGE}" if (run.folder / PAGE).exists() else "",
        "state": _state_of(run),
        "began": f"{run.began.astimezone(datetime.UTC):%Y-%m-%d %H:%M}" if run.began else "unknown",
        "seconds": _duration(run.seconds),
        "cached": sum(node.state == "cached" for node in run.nodes),
        "nodes": len(run.nodes),
        "blessed": _blessed(run),
        "pushed": _push(run)["short"],
    }


# --- The run as a whole ------------------------------------------------------------------------


def _state_of(run: Run) -> str:
    if run.failed:
        return "failed"
    return "finished" if run.finished else "not finished"


def _headline(run: Run) -> dict[str, str]:
    """The run in one sentence, with the class that colours it."""
    if run.failed:
        names = " and ".join(node.id for node in run.failed)
        return {"kind": "bad", "words": f"Failed at {names}; {_after(run)}."}
    if not run.nodes:
        return {"kind": "open", "words": "Nothing has run yet."}
    if not run.finished:
        reached = sum(node.state != "not reached" for node in run.nodes)
        return {"kind": "open", "words": f"Not finished: {reached} of {len(run.nodes)} nodes done."}
    push, blessed = _push(run), _blessed(run)
    if blessed == "not blessed":
        return {"kind": "bad", "words": "Finished; the model was not blessed, and is not pushed."}
    return {"kind": push["state"], "words": f"Finished. {push['words']}"}


def _after(run: Run) -> str:
    left = sum(node.state == "not reached" for node in run.nodes)
    if _push(run)["pushed"]:
        return "a model had been pushed before"
    rest = f"{left} {'node was' if left == 1 else 'nodes were'} not reached and " if left else ""
    return f"{rest}nothing was pushed"


def _failure(node: Node) -> dict[str, Any]:
    """The error in words: its kind, and its first lines ahead of the rest."""
    error = node.error.strip() or "It left no message; the log may have one."
    kind, colon, said = error.partition(": ")
    if not (colon and kind.isidentifier()):
        kind, said = "", error
    lines = said.strip().splitlines()
    # A page of traceback is not for reading at the top.
    shown = lines if len(lines) <= _MOST_LINES else lines[:_MOST_LINES]
    rest = "\n".join(lines[len(shown) :])
    return {"node": node.id, "kind": kind, "lines": [s for s in shown if s.strip()], "rest": rest}


def _times(run: Run) -> list[tuple[str, str]]:
    rows = []
    if run.began and run.ended:
        whole = (run.ended - run.began).total_seconds()
        rows = [
            ("began", _moment(run.began)),
            ("ended" if run.finished or run.failed else "last news", _moment(run.ended)),
            ("from begin to end", _duration(whole)),
        ]
    return [*rows, ("all nodes together", _duration(run.seconds)), ("run id", run.id)]


def _counts(run: Run) -> list[dict[str, Any]]:
    counts = []
    for state in reading.STATES:
        number = sum(node.state == state for node in run.nodes)
        if number or state == "ran":
            counts.append(
                {
                    "state": state,
                    "kind": _kind(state),
                    "mark": _MARKS[state],
                    "number": number,
                    "meaning": _MEANINGS[state],
                }
            )
    return counts


def _kind(state: State) -> str:
    return state.replace(" ", "-")


def _moment(time: datetime.datetime | None) -> str:
    return f"{time.astimezone(datetime.UTC):%d %B %Y, %H:%M:%S} UTC" if time else "unknown"


def _date(seconds: float) -> str:
    try:
        time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):  # of milliseconds that were taken for seconds
        return formats.value(seconds)
    return f"{time:%d %B %Y, %H:%M} UTC"


def _duration(seconds: float) -> str:
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name)


# --- Graph and nodes ---------------------------------------------------------------------------


def _graph(run: Run) -> dict[str, Any] | None:
    """Geometry of the graph; None without nodes."""
    if not run.nodes:
        return None
    names = [node.id for node in run.nodes]
    edges = [(above, node.id) for node in run.nodes for above in node.upstream]
    try:
        layout = layered(names, edges, _BOX)
    except ValueError:  # no pipeline of TFX has a cycle, but the file may be anyone's
        layout = layered(names, [], _BOX)
    return {
        "width": layout.width + 4,
        "height": layout.height + 4,
        "box": {"width": _BOX[0], "height": _BOX[1]},
        "paths": [_curve(points) for points in layout.arrows.values()],
        "boxes": [
            {
                "x": layout.boxes[node.id][0] + 2,
                "y": layout.boxes[node.id][1] + 2,
                "id": node.id,
                "name": node.id if len(node.id) <= 24 else f"{node.id[:23]}…",
                "kind": _kind(node.state),
                "mark": _MARKS[node.state],
                "words": _words(node),
            }
            for node in run.nodes
        ],
    }


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A path that leaves and arrives upright; straight inside of a layer."""
    moved = [(x + 2, y + 2) for x, y in points]
    parts = [f"M{moved[0][0]:g},{moved[0][1]:g}"]
    for index in range(1, len(moved)):
        (x, y), (u, v) = moved[index - 1], moved[index]
        if index == len(moved) - 1:
            v -= 6  # the arrow's head
        middle = (y + v) / 2
        parts.append(
            f"L{u:g},{v:g}" if x == u else f"C{x:g},{middle:g} {u:g},{middle:g} {u:g},{v:g}"
        )
    return " ".join(parts)


def _words(node: Node) -> str:
    if node.state == "not reached":
        return node.state
    return f"{node.state}, {_duration(node.seconds)}"


def _nodes(run: Run) -> list[dict[str, Any]]:
    longest = max((node.seconds for node in run.nodes), default=0.0) or 1.0
    total = run.seconds or 1.0
    return [
        {
            "id": node.id,
            "state": node.state,
            "kind": _kind(node.state),
            "mark": _MARKS[node.state],
            "seconds": "" if node.state == "not reached" else _duration(node.seconds),
            "share": "" if node.state == "not reached" else _percent(node.seconds / total),
            "bar": round(100 * node.seconds / longest, 2),
            "began": _moment(node.began) if node.began else "",
            "attempts": node.attempts,
            "upstream": node.upstream,
            "error": node.error,
            "artifacts": [_artifact(artifact, run.folder) for artifact in node.outputs],
        }
        for node in run.nodes
    ]


def _artifact(artifact: Artifact, here: Path) -> dict[str, Any]:
    try:
        link, note = _link(artifact.folder, here), ""
    except MissingError as error:
        link, note = "", str(error)
    return {
        "key": artifact.key,
        "type": artifact.type,
        "id": artifact.id,
        "uri": artifact.uri,
        "link": link,
        "note": "" if note.startswith("It lies") else note,
        "properties": [
            (name, formats.value(value))
            for name, value in artifact.properties.items()
            if value not in ("", None) and len(str(value)) <= 400
        ],
    }


def _link(path: Path, here: Path) -> str:
    """Relative, so that a pipeline's folder may be moved as a whole."""
    return _quoted(os.path.relpath(path, here))


# --- Data --------------------------------------------------------------------------------------


def _tables(run: Run) -> list[dict[str, Any]]:
    """Statistics and anomalies of each input: nodes `<Table>Statistics` and `<Table>Validator`."""
    found = []
    for node in run.nodes:
        if not node.id.endswith("Statistics"):
            continue
        name = node.id.removesuffix("Statistics")
        table: dict[str, Any] = {"name": name, "splits": [], "note": ""}
        table["schema"] = _schema(run, name)
        table["anomalies"], table["verdict"] = _anomalies(run.node(f"{name}Validator"))
        artifact = next(node.of_type(reading.STATISTICS), None)
        if artifact is None:
            table["note"] = f"{node.id} {_why_nothing(node)}, so there are no statistics."
        else:
            try:
                splits = reading.read_statistics(artifact)
                table["splits"] = [_split(name, split, stats) for split, stats in splits.items()]
            except MissingError as error:
                table["note"] = f"No statistics: {error}"
        found.append(table)
    return found


def _schema(run: Run, table: str) -> str:
    """Where the schema came from; "" if it is not known."""
    node = run.node("Schemas")
    for artifact in node.of_type(reading.SCHEMA) if node else ():
        if artifact.key == table.lower() and artifact.properties.get("inferred"):
            return "Its schema was inferred from these very rows, as there was no earlier one."
    return ""


def _why_nothing(node: Node | None) -> str:
    if node is None:
        return "is not part of this pipeline"
    return {
        "not reached": "was not reached",
        "failed": "failed",
        "skipped": "was skipped",
    }.get(node.state, "left nothing")


def _split(table: str, name: str, stats: Any) -> dict[str, Any]:
    rows = int(stats.num_examples)
    features = [_feature(feature, rows) for feature in stats.features]
    for feature, shown in zip(stats.features, features, strict=True):
        # Our ExampleGen makes Unix seconds of every event's time.
        if table == "Interactions" and shown["name"] == "time" and feature.HasField("num_stats"):
            times = feature.num_stats
            shown["told"] = f"from {_date(times.min)} to {_date(times.max)}"
    return {
        "name": name,
        "rows": f"{rows:,}",
        "features": features[:_MOST_FEATURES],
        "more": max(len(features) - _MOST_FEATURES, 0),
    }


def _feature(feature: Any, rows: int) -> dict[str, Any]:
    name = feature.name or ".".join(feature.path.step)
    kind = feature.WhichOneof("stats")
    common = getattr(feature, kind).common_stats if kind else None
    # TFDV counts rows that lack the feature altogether among the missing.
    missing = int(common.num_missing) if common else rows
    present = int(common.num_non_missing) if common else 0
    whole = missing + present or rows
    described: dict[str, Any] = {
        "name": name,
        "type": feature.Type.Name(feature.type).lower(),
        "missing": f"{_percent(missing / whole)}" if whole else "",
        "lacks": missing > 0,
        "distinct": "",
        "told": "",
        "bars": [],
        "alt": "",
    }
    if common and common.max_num_values > 1:
        described["type"] += f", up to {common.max_num_values:,} a row"
    if kind == "num_stats":
        described.update(_numbers(name, feature.num_stats))
    elif kind == "string_stats":
        described.update(_strings(name, feature.string_stats, present))
    return described


def _numbers(name: str, stats: Any) -> dict[str, Any]:
    mean, low, high, median = map(formats.value, (stats.mean, stats.min, stats.max, stats.median))
    told = f"mean {mean}, from {low} to {high}, median {median}"
    found: dict[str, Any] = {"told": told}
    for histogram in stats.histograms:
        if histogram.type == histogram.STANDARD and histogram.buckets:
            buckets = histogram.buckets
            found["bars"] = _bars([bucket.sample_count for bucket in buckets])
            found["alt"] = (
                f"Histogram of {name} from {formats.value(buckets[0].low_value)} to "
                f"{formats.value(buckets[-1].high_value)}"
            )
            break
    return found


def _strings(name: str, stats: Any, present: int) -> dict[str, Any]:
    top = list(stats.top_values)
    told = [
        f"{_short(entry.value)} ({_percent(entry.frequency / present)})"
        if present
        else _short(entry.value)
        for entry in top[:3]
    ]
    counts = [bucket.sample_count for bucket in stats.rank_histogram.buckets]
    if len(counts) < 2:
        counts = [entry.frequency for entry in top]
    shown = counts[:_MOST_BARS]
    return {
        "distinct": f"{int(stats.unique):,}",
        "told": ", ".join(told),
        "bars": _bars(shown),
        "alt": f"How often the {len(shown)} most frequent values of {name} occur" if shown else "",
    }


def _short(text: str, most: int = 32) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def _bars(counts: Sequence[float]) -> list[dict[str, float]]:
    """Bars of a histogram in a box of 120 by 26, lowest count visible."""
    if not counts or max(counts) <= 0:
        return []
    width = 120 / len(counts)
    bars = []
    for index, count in enumerate(counts):
        height = max(26 * count / max(counts), 0.8 if count > 0 else 0.0)
        bars.append(
            {
                "x": round(index * width, 2),
                "y": round(26 - height, 2),
                "width": round(max(width - 0.8, 0.6), 2),
                "height": round(height, 2),
            }
        )
    return bars


def _anomalies(node: Node | None) -> tuple[list[dict[str, Any]], str]:
    """Rows of (split, feature, what), and the whole in words."""
    artifact = next(node.of_type(reading.ANOMALIES), None) if node else None
    if artifact is None:
        name = f"{node.id} " if node else "Validation "
        return [], f"{name}{_why_nothing(node)}, so nothing is known of anomalies."
    try:
        splits = reading.read_anomalies(artifact)
    except MissingError as error:
        return [], f"Nothing is known of anomalies: {error}"
    rows = []
    for split, found in splits.items():
        if found.data_missing:
            rows.append(_anomaly(split, "the whole table", "Data missing", "There are no rows."))
        if found.HasField("dataset_anomaly_info"):
            info = found.dataset_anomaly_info
            rows.append(
                _anomaly(split, "the whole table", info.short_description, info.description)
            )
        for feature, info in sorted(found.anomaly_info.items()):
            rows.append(_anomaly(split, feature, info.short_description, info.description))
    if not rows:
        return [], "No anomalies: the data is as its schema says."
    features = len({row["feature"] for row in rows})
    return rows, f"{len(rows)} anomalies in {features} features." if len(rows) > 1 else "1 anomaly."


def _anomaly(split: str, feature: str, short: str, long: str) -> dict[str, str]:
    return {"split": split, "feature": feature, "short": short, "long": long}


def _data_gates(run: Run) -> list[dict[str, Any]]:
    """What the gates ahead of the training let through; a pipeline may be without the second."""
    gates = [_gate(run, "DataGate", "the data", reading.ACCEPTED, "anomalies.json")]
    if run.node("SplitGate") is not None:
        gates.append(_gate(run, "SplitGate", "the splits", reading.COMPARED, "drift.json"))
    return gates


def _gate(run: Run, name: str, what: str, kind: str, file: str) -> dict[str, Any]:
    """Whether a gate accepted `what`, and the drift that it wrote into a file of its output."""
    node = run.node(name)
    shown: dict[str, Any] = {"id": name, "what": what, "state": "open", "drift": [], "facts": []}
    artifact = next(node.of_type(kind), None) if node else None
    if artifact is None or node is None:
        failed = node is not None and node.state == "failed"
        why = f"refused {what}, or failed; why stands at the top" if failed else _why_nothing(node)
        return shown | {"words": f"{name} {why}.", "state": "bad" if failed else "open"}
    shown |= {"state": "good", "words": f"{name} accepted {what}."}
    if kind == reading.ACCEPTED:
        shown["facts"] += _new_ids(artifact)
    try:
        found = reading.read_json(artifact.folder / file)
        rows = [row for row in found.get("drift") or () if isinstance(row, dict)]
    except (MissingError, AttributeError) as error:
        return shown | {"facts": [*shown["facts"], f"Drift can't be shown: {error}"]}
    if not rows:
        shown["facts"].append("There was nothing to measure drift against.")
    shown["drift"] = [
        {
            "feature": str(row.get("feature", "")),
            "against": str(row.get("against", "")),
            "measure": str(row.get("measure", "")),
            "value": _figure(row, "value", ".3f"),
            "limit": _figure(row, "limit", "g"),
            "bar": _share_of(row.get("value"), row.get("limit")),
        }
        for row in sorted(rows, key=lambda row: -_share_of(row.get("value"), row.get("limit")))
    ]
    return shown


def _new_ids(accepted: Artifact) -> list[str]:
    shares = {table: accepted.properties.get(f"new_{table}") for table in ("users", "items")}
    told = [
        f"{_percent(float(share))} of the events are of {table} not met before."
        for table, share in shares.items()
        if isinstance(share, int | float)
    ]
    return told or ["Nothing was accepted before that new users and items would stand out by."]


def _share_of(value: Any, limit: Any) -> float:
    """How much of the limit is used up, in percent; at most 100."""
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (value, limit)):
        return 0.0
    return round(min(100 * value / limit, 100.0), 1) if limit > 0 else 0.0


# --- The search --------------------------------------------------------------------------------


def _search(run: Run) -> dict[str, Any]:
    nothing: dict[str, Any] = {"link": "", "trials": [], "best": []}
    node = run.node("Tuner")
    if node is None:
        node = run.node("LastStrategy")
        if node is None or not node.outputs:
            return {**nothing, "words": "No search: this pipeline has no Tuner."}
    try:
        found = reading.read_search(node)
    except MissingError as error:
        why = str(error) if node.outputs else f"The {node.id} {_why_nothing(node)}."
        return {**nothing, "words": f"No result of a search: {why}"}
    trials = found.trials[:_MOST_TRIALS]
    columns = list(dict.fromkeys(name for trial in trials for name in trial.values))
    varied = [
        name
        for name in columns
        if len({formats.value(trial.values.get(name)) for trial in trials}) > 1
    ]
    if len(trials) == 1:
        varied = columns
    shown = varied[:10]
    words = f"{len(found.trials)} trials" if len(found.trials) != 1 else "1 trial"
    words += " in this run." if node.state == "ran" else ", taken from an earlier run."
    if node.id == "LastStrategy":
        words = "No search in this run; the last best strategy was taken."
    return {
        "words": words,
        "link": _link(found.page, run.folder) if found.page else "",
        "objective": found.objective or "score",
        "columns": shown,
        "trials": [
            {
                "id": trial.id,
                "best": bool(found.best_trial) and trial.id == found.best_trial,
                "score": "–" if trial.score is None else f"{trial.score:.4f}",
                "error": _short(trial.error.partition("\n")[0], 120),
                "seconds": "" if trial.seconds is None else _duration(trial.seconds),
                "cells": [
                    formats.value(trial.values[n]) if n in trial.values else "–" for n in shown
                ],
            }
            for trial in trials
        ],
        "timed": any(trial.seconds is not None for trial in trials),
        "best": [(name, formats.value(value)) for name, value in found.best.items()],
        "plot": _plot(trials, found.best_trial, found.objective or "score"),
    }


def _plot(trials: Sequence[reading.Trial], best: str, objective: str) -> dict[str, Any] | None:
    """Geometry of the objective by trial; None below two scores."""
    scored = [(place, trial) for place, trial in enumerate(trials) if trial.score is not None]
    if len(scored) < 2:
        return None
    width, height, left, right, top, bottom = 720.0, 190.0, 56.0, 708.0, 10.0, 160.0
    scores = [trial.score for _, trial in scored if trial.score is not None]
    ticks = charts.round_ticks(min(scores), max(scores), 4)
    step = (right - left) / max(len(trials) - 1, 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    every = math.ceil(len(trials) / 20)
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "ticks": [{"at": y(tick), "label": f"{tick:.4g}"} for tick in ticks],
        "labels": [
            {"at": round(left + place * step, 1), "label": trial.id}
            for place, trial in enumerate(trials)
            if place % every == 0
        ],
        "points": [
            {
                "x": round(left + place * step, 1),
                "y": y(trial.score or 0.0),
                "best": trial.id == best,
                "label": f"trial {trial.id}: {objective} {trial.score:.4f}",
            }
            for place, trial in scored
        ],
    }


# --- Verdicts ----------------------------------------------------------------------------------


def _blessed(run: Run) -> str:
    """ "blessed", "not blessed", or "" where nothing was judged."""
    verdict = run.made(reading.VERDICT)
    if verdict is not None:
        try:
            return "blessed" if reading.read_verdict(verdict[1]).blessed else "not blessed"
        except MissingError:
            pass
    blessing = run.made(reading.BLESSING)
    if blessing is None or "blessed" not in blessing[1].properties:
        return ""
    return "blessed" if blessing[1].properties["blessed"] else "not blessed"


def _ranking(run: Run) -> dict[str, Any]:
    blessed = _blessed(run)
    shown: dict[str, Any] = {
        "state": {"blessed": "good", "not blessed": "bad"}.get(blessed, "open"),
        "words": (),
        "notes": (),
        "checks": [],
        "signature": [],
        "link": "",
    }
    verdict = run.made(reading.VERDICT)
    if verdict is None:
        node = run.node("RankingGate")
        shown["words"] = (f"The ranking gate {_why_nothing(node)}, so nothing was judged.",)
        return shown
    try:
        found = reading.read_verdict(verdict[1])
    except MissingError as error:
        shown["words"] = (f"{blessed.capitalize() or 'Unknown'}; why can't be shown: {error}",)
        return shown
    shown.update(
        words=found.words or (blessed.capitalize() + ".",),
        notes=found.notes,
        checks=[_check(check) for check in found.checks],
        signature=[
            {
                "slice": name or "the whole",
                "events": _figure(values, "example_count", ",.0f"),
                "auc": _figure(values, "auc"),
                "calibration": _figure(values, "calibration", ".3f"),
            }
            for name, values in found.signature.items()
        ],
        link=_link(found.page, run.folder) if found.page else "",
    )
    return shown


def _figure(values: Mapping[str, Any], name: str, form: str = ".4f") -> str:
    value = values.get(name)
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return format(value, form) if is_number else "–"


def _check(check: Mapping[str, Any]) -> dict[str, str]:
    low, high = _figure(check, "low", "+.4f"), _figure(check, "high", "+.4f")
    outcome = str(check.get("outcome") or "")
    return {
        "slice": str(check.get("slice") or ""),
        "metric": str(check.get("metric") or ""),
        "against": str(check.get("against") or ""),
        "model": _figure(check, "model"),
        "other": _figure(check, "other"),
        "difference": _figure(check, "difference", "+.4f"),
        "interval": "" if "–" in (low, high) else f"{low} to {high}",
        "users": formats.value(check.get("users")) if check.get("users") else "–",
        "outcome": {"open": "too few users to tell"}.get(outcome, outcome),
        "kind": {"passed": "good", "failed": "bad"}.get(outcome, "open"),
    }


def _infra(run: Run) -> dict[str, str]:
    made = run.made(reading.INFRA_BLESSING)
    if made is None:
        node = run.node("InfraValidator")
        return {"state": "open", "words": f"InfraValidator {_why_nothing(node)}."}
    properties = made[1].properties
    blessed = properties.get("blessed")
    reason = next((str(properties[n]) for n in ("reason", "words") if properties.get(n)), "")
    if blessed is None:
        return {"state": "open", "words": reason or "InfraValidator left no word."}
    words = (
        "Blessed: the candidate was loaded and answered."
        if blessed
        else "Not blessed: the candidate could not be served."
    )
    return {"state": "good" if blessed else "bad", "words": reason or words}


def _push(run: Run) -> dict[str, Any]:
    """What became of the model; `short` is for a list, "" where nothing was pushed."""
    made = run.made(reading.PUSHED)
    if made is None:
        node = run.node("Pusher")
        why = f"the Pusher {_why_nothing(node)}"
        return {
            "state": "open",
            "pushed": False,
            "short": "",
            "words": f"Nothing was pushed: {why}.",
            "destination": "",
        }
    properties = made[1].properties
    version = str(properties.get("pushed_version") or "")
    pushed = bool(properties.get("pushed"))
    new = pushed and properties.get("new_version", 1) and made[0].state != "cached"
    words = str(properties.get("reason") or "")
    if not words:
        words = f"Pushed as version {version}." if pushed else "Nothing was pushed."
    if pushed and made[0].state == "cached":
        words = f"Version {version} was pushed by an earlier run; nothing new is pushed."
    return {
        "state": "good" if pushed else "bad",
        "pushed": pushed,
        "short": f"version {version}" + ("" if new else ", as before") if pushed else "",
        "words": words,
        "destination": str(properties.get("pushed_destination") or ""),
    }


def _versions() -> list[tuple[str, str]]:
    """Of the environment that writes the page: a run's own."""
    found = [("tfrec-meta", __version__), ("Python", ".".join(map(str, sys.version_info[:3])))]
    for name in _VERSIONS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- On the command line -----------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page of one run anew."""
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.pipeline.pages.run_page",
        description="Writes the HTML page of a run of the pipeline, and the list of all runs.",
        epilog="examples:\n"
        "  python -m tfrec_meta.pipeline.pages.run_page --run .runs/films/runs/1\n"
        "  python -m tfrec_meta.pipeline.pages.run_page --runs .runs/films/runs   # the list alone",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--run", type=Path, metavar="FOLDER", help="<the pipeline's folder>/runs/<run id>"
    )
    which.add_argument("--runs", type=Path, metavar="FOLDER", help="<the pipeline's folder>/runs")
    options = parser.parse_args(arguments)
    try:
        print(write_run_page(options.run) if options.run else write_list(options.runs))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
