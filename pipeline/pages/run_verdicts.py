"""The verdicts on the page of a run: ranking gate, InfraValidator and Pusher."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfrec_meta.pipeline.gates.verdict import Check, Outcome, SliceName, shown_slice
from tfrec_meta.pipeline.node_ids import NodeId
from tfrec_meta.pipeline.pages import artifact_files, page_text
from tfrec_meta.pipeline.pages.run_records import MissingError, Run
from tfrec_meta.pipeline.runners.run_folder import NodeState
from tfrec_meta.reports import formats

_KINDS = {Outcome.PASSED: "good", Outcome.FAILED: "bad", Outcome.INCONCLUSIVE: "open"}


def blessed(run: Run) -> str:
    """Returns "blessed", "not blessed", or "" if no model was evaluated."""
    verdict = run.made(artifact_files.VERDICT)
    if verdict is not None:
        try:
            return "blessed" if artifact_files.read_verdict(verdict[1]).blessed else "not blessed"
        except MissingError:
            pass
    blessing = run.made(artifact_files.BLESSING)
    if blessing is None or "blessed" not in blessing[1].properties:
        return ""
    return "blessed" if blessing[1].properties["blessed"] else "not blessed"


def ranking(run: Run) -> dict[str, Any]:
    """Returns the verdict of the ranking gate."""
    is_blessed = blessed(run)
    shown: dict[str, Any] = {
        "state": {"blessed": "good", "not blessed": "bad"}.get(is_blessed, "open"),
        "words": (),
        "notes": (),
        "checks": [],
        "signature": [],
        "link": "",
    }
    verdict = run.made(artifact_files.VERDICT)
    if verdict is None:
        node = run.node(NodeId.RANKING_GATE)
        shown["words"] = (
            f"The ranking gate {page_text.why_no_output(node)}, so no model was evaluated.",
        )
        return shown
    try:
        found = artifact_files.read_verdict(verdict[1])
        signature = artifact_files.read_signature(verdict[1])
        page = artifact_files.page_of_verdict(verdict[1])
    except MissingError as error:
        shown["words"] = (
            f"{is_blessed.capitalize() or 'Unknown'}; the reasons can't be shown: {error}",
        )
        return shown
    shown.update(
        words=(found.words or is_blessed.capitalize() + ".",),
        notes=found.notes,
        checks=[_check(check) for check in found.checks],
        signature=[
            {
                "slice": name or SliceName.ALL_USERS.label,
                "events": page_text.figure(values, "example_count", ",.0f"),
                "auc": page_text.figure(values, "auc"),
                "calibration": page_text.figure(values, "calibration", ".3f"),
            }
            for name, values in signature.items()
        ],
        link=page_text.relative_link(page, run.folder) if page else "",
    )
    return shown


def _check(check: Check) -> dict[str, str]:
    values = dataclasses.asdict(check)
    low, high = page_text.figure(values, "low", "+.4f"), page_text.figure(values, "high", "+.4f")
    return {
        "slice": shown_slice(check.slice),
        "metric": check.metric,
        "against": check.against.words,
        "model": page_text.figure(values, "model"),
        "other": page_text.figure(values, "other"),
        "difference": page_text.figure(values, "difference", "+.4f"),
        "interval": "" if "–" in (low, high) else f"{low} to {high}",
        "users": formats.value(check.users) if check.users else "–",
        "outcome": "too few users" if check.outcome == Outcome.INCONCLUSIVE else check.outcome,
        "kind": _KINDS[check.outcome],
    }


def infra(run: Run) -> dict[str, str]:
    """Returns the verdict of InfraValidator."""
    made = run.made(artifact_files.INFRA_BLESSING)
    if made is None:
        node = run.node(NodeId.INFRA_VALIDATOR)
        return {"state": "open", "words": f"InfraValidator {page_text.why_no_output(node)}."}
    properties = made[1].properties
    is_blessed = properties.get("blessed")
    reason = next((str(properties[n]) for n in ("reason", "words") if properties.get(n)), "")
    if is_blessed is None:
        return {"state": "open", "words": reason or "InfraValidator wrote no result."}
    words = (
        "Blessed: the candidate loaded and answered requests."
        if is_blessed
        else "Not blessed: the candidate could not be served."
    )
    return {"state": "good" if is_blessed else "bad", "words": reason or words}


def push(run: Run) -> dict[str, Any]:
    """Returns the result of the push; `short` is for the list of runs, "" if nothing was pushed."""
    made = run.made(artifact_files.PUSHED)
    if made is None:
        node = run.node(NodeId.PUSHER)
        why = f"the Pusher {page_text.why_no_output(node)}"
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
    new = pushed and properties.get("new_version", 1) and made[0].state != NodeState.CACHED
    words = str(properties.get("reason") or "")
    if not words:
        words = f"Pushed as version {version}." if pushed else "Nothing was pushed."
    if pushed and made[0].state == NodeState.CACHED:
        words = f"Version {version} was pushed by an earlier run; no new version is pushed."
    return {
        "state": "good" if pushed else "bad",
        "pushed": pushed,
        "short": f"version {version}" + ("" if new else ", as before") if pushed else "",
        "words": words,
        "destination": str(properties.get("pushed_destination") or ""),
    }
