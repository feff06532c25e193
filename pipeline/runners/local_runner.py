"""Runs the pipeline on one machine without a server: node by node, in this process.

    python -m tfrec_meta.pipeline.runners.local_runner --config films.yaml
    python -m tfrec_meta.pipeline.runners.local_runner --config films.yaml --set tuner.trials=3
    python -m tfrec_meta.pipeline.runners.local_runner --config shop.yaml

Metadata is stored in an SQLite file and Beam runs in this process, unless the config says
otherwise. To continue a run that was killed or failed, start it again: finished nodes come from the
cache, and a search or a training continues where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfrec_meta.errors import described
from tfrec_meta.extras import not_installed
from tfrec_meta.io.files import write_text
from tfrec_meta.io.stores import AnyPath, any_path
from tfrec_meta.keras import hide_tensorflow_errors
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.gates.verdict import VERDICT_FILE, Verdict
from tfrec_meta.pipeline.node_ids import NodeId
from tfrec_meta.pipeline.runners.run_folder import LOG, NodeRecord, NodeState
from tfrec_meta.pipeline.runners.worker_client import CONFIG

# Hides TensorFlow's C++ log below errors; errors that stop a run are raised as exceptions.
hide_tensorflow_errors()

_log = logging.getLogger(__name__)
_SHOW_PROGRESS = (NodeId.TUNER, NodeId.TRAINER)  # nodes that display a progress bar of their own


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: the run's folder, with `log.txt`, `nodes.jsonl` and the sources of `page`.
        page: the HTML page.
        seconds: wall time of the run.
        cached: number of nodes whose outputs come from an earlier run.
        pushed: the new version folder for TF Serving; None if nothing was pushed.
        verdict: the reasons why the candidate was blessed or not.
    """

    folder: Path
    page: Path
    seconds: float
    cached: int
    pushed: AnyPath | None
    verdict: tuple[str, ...]


def run(config: PipelineConfig, run_id: str | None = None, progress: bool = True) -> Run:
    """Runs the complete pipeline.

    Args:
        config: the pipeline's config.
        run_id: name of the run's folder; the current time by default. A run id that exists already
            continues that run.
        progress: whether to print one line per node.

    Raises:
        ValueError: if the data gate refuses the data, with feature and reason.
        Exception: any exception of a node. The run's page is written in that case too.
    """
    with _needs_the_extra():
        from tfrec_meta.pipeline import pipeline
        from tfrec_meta.pipeline.pages import run_page
        from tfrec_meta.pipeline.runners import compilation, logs, nodes

    began = time.monotonic()  # after the imports
    run_id = run_id or new_run_id()
    ir = compilation.compile_pipeline(pipeline.create_pipeline(config))
    folder = nodes.begin_run(ir, run_id, config.folder)
    _write_config(config, folder)
    names = compilation.node_ids(ir)
    cached, pushed = 0, None
    verdict: tuple[str, ...] = ()
    with logs.log_to(folder / LOG):
        try:
            for number, name in enumerate(names, 1):
                label = f"[{number:>2}/{len(names)}] {name:<24}"
                if progress:
                    print(label, end="\n" if name in _SHOW_PROGRESS else "", flush=True)
                record = nodes.run_node_in(folder, name)
                cached += record.state == NodeState.CACHED
                if progress:
                    again = label if name in _SHOW_PROGRESS else ""
                    print(f"{again}{record.state:<8}{record.seconds:>6.1f} s", flush=True)
                if name == NodeId.RANKING_GATE:
                    verdict = _verdict(record)
                if name == NodeId.PUSHER:
                    pushed = _pushed(record)
        except BaseException:
            if progress:
                print("failed", flush=True)
            _log.exception("%s failed", name)
            with contextlib.suppress(Exception):  # report the node's error, not the page's
                run_page.write_run_page(folder)
            raise
        page = run_page.write_run_page(folder)
    return Run(folder, page, time.monotonic() - began, cached, pushed, verdict)


def new_run_id() -> str:
    """Returns the current time, to the microsecond."""
    return datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S.%f")


def _as_text(config: PipelineConfig) -> str:
    return json.dumps(config.as_dict(), indent=1)


def _write_config(config: PipelineConfig, folder: Path) -> None:
    """Writes the config into the run's folder, for its page.

    Raises:
        ValueError: if the run began with another config.
    """
    path = folder / CONFIG
    text = _as_text(config)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder} began with other settings. Use another run id, or the settings of {path}."
        )
    write_text(path, text)


def _verdict(record: NodeRecord) -> tuple[str, ...]:
    (artifact,) = record.outputs["verdict"]
    text = Path(artifact["uri"], VERDICT_FILE).read_text(encoding="utf-8")
    return (Verdict.from_dict(json.loads(text)).words,)


def _pushed(record: NodeRecord) -> AnyPath | None:
    (artifact,) = record.outputs["pushed_model"]
    properties = artifact["properties"]
    return any_path(properties["pushed_destination"]) if properties.get("new_version") else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.pipeline.runners.local_runner",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="the YAML file of a pipeline or run"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting that overrides the file's, such as tuner.trials=3; may be repeated",
    )
    parser.add_argument("--run-id", help="name of the run's folder; the current time by default")
    parser.add_argument(
        "--compile",
        metavar="FOLDER",
        help="only write the compiled pipeline into FOLDER, for Airflow (docs/airflow.md)",
    )
    parser.add_argument("--schedule", help="with --compile: a cron expression, or @daily")
    return parser


def _deployed(config: PipelineConfig, options: argparse.Namespace) -> Path:
    """Writes the compiled pipeline for Airflow, and returns its folder."""
    with _needs_the_extra():
        from tfrec_meta.pipeline import pipeline
        from tfrec_meta.pipeline.runners import compilation

    folder = compilation.deploy(
        compilation.compile_pipeline(pipeline.create_pipeline(config)),
        options.compile,
        pipeline_folder=config.folder,
        config=options.config,
        settings=options.set,
        schedule=options.schedule,
    )
    write_text(folder / CONFIG, _as_text(config))
    return folder


@contextlib.contextmanager
def _needs_the_extra() -> Iterator[None]:
    """Raises an error that names the extra if a package of the pipeline is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise not_installed("The pipeline", error, "pipeline") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 if the run finished, whether or not a model was pushed."""
    options = _parser().parse_args(arguments)
    try:
        config = PipelineConfig.read(options.config, options.set)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {described(error)}", file=sys.stderr)
        return 2
    if options.compile:
        try:
            print(_deployed(config, options))
        except Exception as error:
            print(f"error: {described(error)}", file=sys.stderr)
            return 1
        return 0
    print("Importing TFX ...", flush=True)
    run_id = options.run_id or new_run_id()
    try:
        finished = run(config, run_id)
    except Exception as error:
        print(f"\nerror: {described(error)}", file=sys.stderr)
        log = config.folder / "runs" / run_id / LOG
        if log.is_file():
            print(f"More in {log} and {log.with_name('index.html')}.", file=sys.stderr)
        return 1
    for line in finished.verdict:
        print(line)
    print(f"Pushed: {finished.pushed}" if finished.pushed else "No new version was pushed.")
    print(
        f"{finished.seconds:.0f} s, {finished.cached} nodes from the cache. "
        f"The run's page: {finished.page}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
