"""The page of a run: its nodes, data, search, verdicts and push.

    python -m tfrec_meta.pipeline.pages.run_page --run .runs/films/runs/2026-11-22-101500.000000

The page is self-contained, without script and network. `runs/index.html` lists all runs. A run that
failed or is not finished has a page too.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import __version__
from tfrec_meta.pipeline.pages import (
    page_text,
    run_data,
    run_graph,
    run_search,
    run_verdicts,
)
from tfrec_meta.pipeline.pages.run_records import Node, Run, read_run
from tfrec_meta.pipeline.runners.run_folder import PAGE, RECORDS, NodeState
from tfrec_meta.pipeline.runners.worker_client import PIPELINE
from tfrec_meta.reports import formats, page

_MEANINGS: dict[NodeState, str] = {
    NodeState.RAN: "in this run",
    NodeState.CACHED: "from an earlier run, since their inputs are unchanged",
    NodeState.SKIPPED: "without work to do",
    NodeState.FAILED: "with an error",
    NodeState.NOT_REACHED: "by this run",
}
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
_MAX_LINES = 15


def write_run_page(run_folder: Path | str) -> Path:
    """Writes `<run folder>/index.html`, and the list of runs in the parent folder.

    Args:
        run_folder: the run's folder, with `pipeline.json` (the compiled pipeline), `nodes.jsonl`
            (one line per node) and `config.json`, as far as they exist. Artifacts are read from the
            paths in the records.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    run = read_run(run_folder)
    written = page.write(run.folder / PAGE, render(run))
    write_list(run.folder.parent)
    return written


def render(run: Run) -> str:
    """Returns the page."""
    return page.render(
        "run.html",
        title=f"Run {run.id}" + (f" of {run.pipeline}" if run.pipeline else ""),
        pipeline=run.pipeline,
        headline=_headline(run),
        failures=[_failure(node) for node in run.failed],
        problems=run.problems,
        times=_times(run),
        counts=_counts(run),
        graph=run_graph.graph(run),
        nodes=run_graph.node_rows(run),
        tables=run_data.tables(run),
        gates=run_data.data_gates(run),
        search=run_search.search(run),
        ranking=run_verdicts.ranking(run),
        infra=run_verdicts.infra(run),
        push=run_verdicts.push(run),
        config=[(key, formats.value(value)) for key, value in formats.flatten(run.config)],
        versions=_versions(),
    )


def write_list(folder: Path | str) -> Path:
    """Writes the list of the runs in `<pipeline's folder>/runs`."""
    folder = Path(folder).absolute()
    runs = []
    for inner in folder.iterdir():
        if inner.is_dir() and any((inner / name).exists() for name in (RECORDS, PIPELINE)):
            runs.append(read_run(inner))
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
        "link": f"{page_text.quoted(run.id)}/{PAGE}" if (run.folder / PAGE).exists() else "",
        "state": _state_of(run),
        "began": f"{run.began.astimezone(datetime.UTC):%Y-%m-%d %H:%M}" if run.began else "unknown",
        "seconds": page_text.duration(run.seconds),
        "cached": sum(node.state == NodeState.CACHED for node in run.nodes),
        "nodes": len(run.nodes),
        "blessed": run_verdicts.blessed(run),
        "pushed": run_verdicts.push(run)["short"],
    }


def _state_of(run: Run) -> str:
    if run.failed:
        return "failed"
    return "finished" if run.finished else "not finished"


def _headline(run: Run) -> dict[str, str]:
    """Returns the state of the run in a sentence, with its CSS class."""
    if run.failed:
        names = " and ".join(node.id for node in run.failed)
        return {"kind": "bad", "words": f"Failed at {names}; {_after(run)}."}
    if not run.nodes:
        return {"kind": "open", "words": "No node has run yet."}
    if not run.finished:
        reached = sum(node.state != NodeState.NOT_REACHED for node in run.nodes)
        return {"kind": "open", "words": f"Not finished: {reached} of {len(run.nodes)} nodes done."}
    push, blessed = run_verdicts.push(run), run_verdicts.blessed(run)
    if blessed == "not blessed":
        return {
            "kind": "bad",
            "words": "Finished. The model was not blessed, so it was not pushed.",
        }
    return {"kind": push["state"], "words": f"Finished. {push['words']}"}


def _after(run: Run) -> str:
    open_nodes = sum(node.state == NodeState.NOT_REACHED for node in run.nodes)
    if run_verdicts.push(run)["pushed"]:
        return "a model had been pushed before the failure"
    rest = ""
    if open_nodes:
        rest = f"{open_nodes} {'node was' if open_nodes == 1 else 'nodes were'} not reached and "
    return f"{rest}nothing was pushed"


def _failure(node: Node) -> dict[str, Any]:
    """Returns the type of the error, its first lines, and the rest."""
    error = node.error.strip() or "The error has no message; see the log."
    kind, colon, message = error.partition(": ")
    if not (colon and kind.isidentifier()):
        kind, message = "", error
    lines = message.strip().splitlines()
    shown = lines[:_MAX_LINES]  # the rest is folded
    rest = "\n".join(lines[len(shown) :])
    return {"node": node.id, "kind": kind, "lines": [s for s in shown if s.strip()], "rest": rest}


def _times(run: Run) -> list[tuple[str, str]]:
    rows = []
    if run.began and run.ended:
        whole = (run.ended - run.began).total_seconds()
        rows = [
            ("began", page_text.moment(run.began)),
            ("ended" if run.finished or run.failed else "last record", page_text.moment(run.ended)),
            ("total time", page_text.duration(whole)),
        ]
    return [*rows, ("time of all nodes", page_text.duration(run.seconds)), ("run id", run.id)]


def _counts(run: Run) -> list[dict[str, Any]]:
    counts = []
    for state in NodeState:
        number = sum(node.state == state for node in run.nodes)
        if number or state == NodeState.RAN:
            counts.append(
                {
                    "state": state,
                    "kind": run_graph.css_class(state),
                    "mark": run_graph.MARKS[state],
                    "number": number,
                    "meaning": _MEANINGS[state],
                }
            )
    return counts


def _versions() -> list[tuple[str, str]]:
    """Returns the versions of the environment that writes the page, which is the run's own."""
    found = [("tfrec-meta", __version__), ("Python", ".".join(map(str, sys.version_info[:3])))]
    for name in _VERSIONS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: writes the page of one run, or the list of runs."""
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.pipeline.pages.run_page",
        description="Writes the HTML page of a run of the pipeline, and the list of all runs.",
        epilog="examples:\n"
        "  python -m tfrec_meta.pipeline.pages.run_page --run .runs/films/runs/1\n"
        "  python -m tfrec_meta.pipeline.pages.run_page --runs .runs/films/runs   # only the list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="the run's folder: <pipeline's folder>/runs/<run id>",
    )
    which.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="<pipeline's folder>/runs: list only"
    )
    options = parser.parse_args(arguments)
    try:
        print(write_run_page(options.run) if options.run else write_list(options.runs))
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
