"""The input data on the page of a run: statistics, anomalies, and the results of the data gates."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from tfrec_meta.pipeline.node_ids import NODES_OF_TABLES, NodeId
from tfrec_meta.pipeline.pages import artifact_files, page_text, run_records
from tfrec_meta.pipeline.pages.run_records import Artifact, MissingError, Node, Run, read_json
from tfrec_meta.pipeline.runners.run_folder import NodeState
from tfrec_meta.reports import formats

_MAX_FEATURES = 100
_MAX_BARS = 24


def tables(run: Run) -> list[dict[str, Any]]:
    """Returns statistics and anomalies of each table."""
    found = []
    for name, ids in NODES_OF_TABLES.items():
        node = run.node(ids.statistics)
        if node is None:
            continue
        table: dict[str, Any] = {"name": name.title(), "splits": [], "note": ""}
        table["schema"] = _schema(run, name)
        table["anomalies"], table["verdict"] = _anomalies(run.node(ids.validator))
        table["dropped"] = _dropped(run, name)
        table["personal"] = _personal(run, name)
        artifact = next(node.of_type(artifact_files.STATISTICS), None)
        if artifact is None:
            table["note"] = (
                f"{node.id} {page_text.why_no_output(node)}, so there are no statistics."
            )
        else:
            try:
                splits = artifact_files.read_statistics(artifact)
                table["splits"] = [_split(name, split, stats) for split, stats in splits.items()]
            except MissingError as error:
                table["note"] = f"No statistics: {error}"
        found.append(table)
    return found


def _schema(run: Run, table: str) -> str:
    """Returns the origin of the schema; "" if it is not worth a remark."""
    node = run.node(NodeId.SCHEMAS)
    for artifact in node.of_type(artifact_files.SCHEMA) if node else ():
        if artifact.key == table and artifact.properties.get("inferred"):
            return "Its schema was inferred from these rows, since there was no earlier one."
    return ""


def _dropped(run: Run, table: str) -> dict[str, Any] | None:
    """Returns the rows that reading and cleaning dropped, by reason; None if that is unknown."""
    read = _counts(run.node(NODES_OF_TABLES[table].gen))
    if read is None:
        return None
    prefix = f"{table}: "
    cleaned = {
        reason.removeprefix(prefix): count
        for reason, count in (_counts(run.node(NodeId.HISTORIES)) or {}).items()
        if reason.startswith(prefix)
    }
    found = [(reason, count, "reading") for reason, count in read.items()]
    found += [(reason, count, "cleaning") for reason, count in cleaned.items()]
    total = sum(count for _, count, _ in found)
    return {
        "words": f"{total:,} rows were dropped." if total else "No row was dropped.",
        "reasons": [
            {"reason": reason, "rows": f"{count:,}", "step": step} for reason, count, step in found
        ],
    }


def _personal(run: Run, table: str) -> list[str]:
    """Returns the columns of a table that look personal, in words."""
    node = run.node(NodeId.HISTORIES)
    for artifact in node.of_type(artifact_files.EXAMPLES) if node else ():
        try:
            found = json.loads(artifact.properties.get(artifact_files.PERSONAL) or "")
            return [str(words) for name, words in found if name == table]
        except (TypeError, ValueError):
            continue
    return []


def _counts(node: Node | None) -> dict[str, int] | None:
    """Returns the number of dropped rows by reason, from a property of a node's examples."""
    for artifact in node.of_type(artifact_files.EXAMPLES) if node else ():
        try:
            found = json.loads(artifact.properties.get(artifact_files.DROPPED) or "")
        except (TypeError, ValueError):
            continue
        if isinstance(found, dict):
            counts = {str(reason): run_records.number(count) for reason, count in found.items()}
            return {reason: int(count) for reason, count in counts.items() if count}
    return None


def _split(table: str, name: str, stats: Any) -> dict[str, Any]:
    rows = int(stats.num_examples)
    features = [_feature(feature, rows) for feature in stats.features]
    for feature, shown in zip(stats.features, features, strict=True):
        # This pipeline's ExampleGen converts the time of events to Unix seconds.
        if table == "interactions" and shown["name"] == "time" and feature.HasField("num_stats"):
            times = feature.num_stats
            shown["summary"] = (
                f"from {page_text.date_of(times.min)} to {page_text.date_of(times.max)}"
            )
    return {
        "name": name,
        "rows": f"{rows:,}",
        "features": features[:_MAX_FEATURES],
        "more": max(len(features) - _MAX_FEATURES, 0),
    }


def _feature(feature: Any, rows: int) -> dict[str, Any]:
    name = feature.name or ".".join(feature.path.step)
    kind = feature.WhichOneof("stats")
    common = getattr(feature, kind).common_stats if kind else None
    # TFDV counts rows without the feature as missing.
    missing = int(common.num_missing) if common else rows
    present = int(common.num_non_missing) if common else 0
    whole = missing + present or rows
    described: dict[str, Any] = {
        "name": name,
        "type": feature.Type.Name(feature.type).lower(),
        "missing": f"{page_text.percent(missing / whole)}" if whole else "",
        "lacks": missing > 0,
        "distinct": "",
        "summary": "",
        "bars": [],
        "alt": "",
    }
    if common and common.max_num_values > 1:
        described["type"] += f", up to {common.max_num_values:,} per row"
    if kind == "num_stats":
        described.update(_numbers(name, feature.num_stats))
    elif kind == "string_stats":
        described.update(_strings(name, feature.string_stats, present))
        if name == "user_id":
            described["summary"] = ""  # the page shows no raw id of a person
    return described


def _numbers(name: str, stats: Any) -> dict[str, Any]:
    mean, low, high, median = map(formats.value, (stats.mean, stats.min, stats.max, stats.median))
    summary = f"mean {mean}, from {low} to {high}, median {median}"
    found: dict[str, Any] = {"summary": summary}
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
    summary = [
        f"{page_text.shortened(entry.value)} ({page_text.percent(entry.frequency / present)})"
        if present
        else page_text.shortened(entry.value)
        for entry in top[:3]
    ]
    counts = [bucket.sample_count for bucket in stats.rank_histogram.buckets]
    if len(counts) < 2:
        counts = [entry.frequency for entry in top]
    shown = counts[:_MAX_BARS]
    return {
        "distinct": f"{int(stats.unique):,}",
        "summary": ", ".join(summary),
        "bars": _bars(shown),
        "alt": f"How often the {len(shown)} most frequent values of {name} occur" if shown else "",
    }


def _bars(counts: Sequence[float]) -> list[dict[str, float]]:
    """Returns the bars of a histogram in a box of 120 by 26; small counts stay visible."""
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
    """Returns rows of (split, feature, description), and a summary."""
    artifact = next(node.of_type(artifact_files.ANOMALIES), None) if node else None
    if artifact is None:
        name = f"{node.id} " if node else "Validation "
        return [], f"{name}{page_text.why_no_output(node)}, so anomalies are unknown."
    try:
        splits = artifact_files.read_anomalies(artifact)
    except MissingError as error:
        return [], f"Anomalies are unknown: {error}"
    rows = []
    for split, found in splits.items():
        if found.data_missing:
            rows.append(_anomaly(split, "all rows", "Data missing", "There are no rows."))
        if found.HasField("dataset_anomaly_info"):
            info = found.dataset_anomaly_info
            rows.append(_anomaly(split, "all rows", info.short_description, info.description))
        for feature, info in sorted(found.anomaly_info.items()):
            rows.append(_anomaly(split, feature, info.short_description, info.description))
    if not rows:
        return [], "No anomalies: the data matches its schema."
    features = len({row["feature"] for row in rows})
    return rows, f"{len(rows)} anomalies in {features} features." if len(rows) > 1 else "1 anomaly."


def _anomaly(split: str, feature: str, short: str, long: str) -> dict[str, str]:
    return {"split": split, "feature": feature, "short": short, "long": long}


def data_gates(run: Run) -> list[dict[str, Any]]:
    """Returns the results of the gates before training; SplitGate is optional."""
    gates = [_gate(run, NodeId.DATA_GATE, "the data", artifact_files.ACCEPTED, "anomalies.json")]
    if run.node(NodeId.SPLIT_GATE) is not None:
        gates.append(
            _gate(run, NodeId.SPLIT_GATE, "the splits", artifact_files.COMPARED, "drift.json")
        )
    return gates


def _gate(run: Run, name: NodeId, what: str, kind: str, file: str) -> dict[str, Any]:
    """Returns whether a gate accepted `what`, and the drift in a file of its output."""
    node = run.node(name)
    shown: dict[str, Any] = {"id": name, "what": what, "state": "open", "drift": [], "facts": []}
    artifact = next(node.of_type(kind), None) if node else None
    if artifact is None or node is None:
        failed = node is not None and node.state == NodeState.FAILED
        why = (
            f"refused {what}, or failed; see the error above"
            if failed
            else page_text.why_no_output(node)
        )
        return shown | {"words": f"{name} {why}.", "state": "bad" if failed else "open"}
    shown |= {"state": "good", "words": f"{name} accepted {what}."}
    if kind == artifact_files.ACCEPTED:
        shown["facts"] += _new_ids(artifact)
    try:
        found = read_json(artifact.folder / file)
        rows = [row for row in found.get("drift") or () if isinstance(row, dict)]
    except (MissingError, AttributeError) as error:
        return shown | {"facts": [*shown["facts"], f"The drift can't be shown: {error}"]}
    if not rows:
        shown["facts"].append("There was no earlier data to measure the drift from.")
    shown["drift"] = [
        {
            "feature": str(row.get("feature", "")),
            "against": str(row.get("against", "")),
            "measure": str(row.get("measure", "")),
            "value": page_text.figure(row, "value", ".3f"),
            "limit": page_text.figure(row, "limit", "g"),
            "bar": _share_of(row.get("value"), row.get("limit")),
        }
        for row in sorted(rows, key=lambda row: -_share_of(row.get("value"), row.get("limit")))
    ]
    return shown


def _new_ids(accepted: Artifact) -> list[str]:
    shares = {table: accepted.properties.get(f"new_{table}") for table in ("users", "items")}
    summary = [
        f"{page_text.percent(float(share))} of the events have new {table}."
        for table, share in shares.items()
        if isinstance(share, int | float)
    ]
    return summary or ["This is the first accepted data, so new users and items are not counted."]


def _share_of(value: Any, limit: Any) -> float:
    """Returns the used share of the limit in percent; at most 100."""
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in (value, limit)):
        return 0.0
    return round(min(100 * value / limit, 100.0), 1) if limit > 0 else 0.0
