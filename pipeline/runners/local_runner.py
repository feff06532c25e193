"""The pipeline on one machine, without a server: node by node, in this process.

    python -m tfrec_meta.pipeline.runners.local_runner --config films.yaml
    python -m tfrec_meta.pipeline.runners.local_runner --config films.yaml --set tuner.trials=3

Metadata is an SQLite file and Beam runs in-process, unless the config says otherwise. A run that
was killed or failed is gone on with by starting it again: finished nodes come from the cache, a
search and a training go on where they were.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tfrec_meta
from tfrec_meta.pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from tfrec_meta.pipeline.runners.nodes import NodeRecord

# TensorFlow's own log would drown what there is to see here; what stops a run is raised anyhow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

LOG = "log.txt"  # in the run's folder
_PACKAGE = os.path.dirname(os.path.abspath(tfrec_meta.__file__))
CONFIG = "config.json"  # in the run's folder
_log = logging.getLogger(__name__)
_TALKATIVE = ("Tuner", "Trainer")  # they show their own progress


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: with `log.txt`, `nodes.jsonl` and all else that `page` is made of.
        page: the HTML page.
        seconds: that its nodes took together.
        cached: how many nodes came from an earlier run.
        pushed: the version folder that TF Serving finds now; None where nothing was pushed.
        verdict: why the candidate was blessed or not.
    """

    folder: Path
    page: Path
    seconds: float
    cached: int
    pushed: Path | None
    verdict: tuple[str, ...]


def run(config: PipelineConfig, run_id: str | None = None, progress: bool = True) -> Run:
    """Runs the pipeline to its end.

    Args:
        config: everything that it needs.
        run_id: names the run's folder; the time by default. An id that has been used goes on with
            that run.
        progress: whether to print a line a node.

    Raises:
        ValueError: if the data gate refuses the data, with feature and reason; and whatever else
            stops a node. The run's page is written then, too.
    """
    from tfrec_meta.pipeline import pipeline
    from tfrec_meta.pipeline.pages import run_page
    from tfrec_meta.pipeline.runners import nodes

    began = time.monotonic()  # when all is imported
    run_id = run_id or new_run_id()
    ir = nodes.compile_pipeline(pipeline.create_pipeline(config))
    folder = nodes.begin_run(ir, run_id, config.folder)
    _keep_config(config, folder)
    names = [node.pipeline_node.node_info.id for node in ir.nodes]
    cached, pushed = 0, None
    verdict: tuple[str, ...] = ()
    with _logged(folder / LOG):
        try:
            for place, name in enumerate(names, 1):
                label = f"[{place:>2}/{len(names)}] {name:<24}"
                if progress:
                    print(label, end="\n" if name in _TALKATIVE else "", flush=True)
                done = nodes.run_node_in(folder, name)
                cached += done.state == "cached"
                if progress:
                    again = label if name in _TALKATIVE else ""
                    print(f"{again}{done.state:<8}{done.seconds:>6.1f} s", flush=True)
                if name == "RankingGate":
                    verdict = _verdict(done)
                if name == "Pusher":
                    pushed = _pushed(done)
        except BaseException:
            if progress:
                print("failed", flush=True)
            _log.exception("%s failed", name)
            with contextlib.suppress(Exception):  # the node's own error is what is to be told
                run_page.write_run_page(folder)
            raise
        page = run_page.write_run_page(folder)
    return Run(folder, page, time.monotonic() - began, cached, pushed, verdict)


def new_run_id() -> str:
    """The time, to the microsecond."""
    return datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S.%f")


def _as_text(config: PipelineConfig) -> str:
    return json.dumps(config.as_dict(), indent=1)


def _keep_config(config: PipelineConfig, folder: Path) -> None:
    """Writes the config beside the run, for its page; a run goes on with its own only."""
    path = folder / CONFIG
    text = _as_text(config)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder} began with other settings. Use another run id, or the settings of {path}."
        )
    path.write_text(text, encoding="utf-8")


def _verdict(record: NodeRecord) -> tuple[str, ...]:
    (artifact,) = record.outputs["verdict"]
    return (json.loads((Path(artifact["uri"]) / "verdict.json").read_text())["words"],)


def _pushed(record: NodeRecord) -> Path | None:
    (artifact,) = record.outputs["pushed_model"]
    said = artifact["properties"]
    return Path(said["pushed_destination"]) if said.get("new_version") else None


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """What TFX, Beam and TensorFlow log goes into a file; warnings of ours are shown, too."""
    from absl import logging as absl_logging

    root = logging.getLogger()
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("\n  %(message)s"))
    shown.setLevel(logging.WARNING)
    # By the file: ours speak through absl's logger, too, as TFX's do.
    shown.addFilter(lambda record: record.pathname.startswith(_PACKAGE) and not record.exc_info)
    before, level = root.handlers[:], root.level
    root.handlers[:] = [file, shown]
    absl_level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
        absl_logging.set_verbosity(absl_level)
        file.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfrec_meta.pipeline.runners.local_runner",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the pipeline, as YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting that goes over the file's, as tuner.trials=3; may be repeated",
    )
    parser.add_argument("--run-id", help="names the run's folder; the time by default")
    parser.add_argument(
        "--compile",
        metavar="FOLDER",
        help="only lay the compiled pipeline out there, for Airflow (docs/airflow.md)",
    )
    parser.add_argument("--schedule", help="with --compile: a cron expression, or @daily")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if the run came to its end, whether or not a model was pushed."""
    options = _parser().parse_args(arguments)
    try:
        config = PipelineConfig.read(options.config, options.set)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.compile:
        from tfrec_meta.pipeline import pipeline
        from tfrec_meta.pipeline.runners import nodes

        ir = nodes.compile_pipeline(pipeline.create_pipeline(config))
        folder = nodes.deploy(
            ir,
            options.compile,
            pipeline_folder=config.folder,
            config=options.config,
            settings=options.set,
            schedule=options.schedule,
        )
        (folder / CONFIG).write_text(_as_text(config), encoding="utf-8")
        print(folder)
        return 0
    print("Importing TFX ...", flush=True)
    run_id = options.run_id or new_run_id()
    try:
        done = run(config, run_id)
    except Exception as error:
        print(f"\nerror: {type(error).__name__}: {error}", file=sys.stderr)
        log = config.folder / "runs" / run_id / LOG
        if log.is_file():
            print(f"More in {log} and {log.with_name('index.html')}.", file=sys.stderr)
        return 1
    for line in done.verdict:
        print(line)
    print(f"Pushed: {done.pushed}" if done.pushed else "Nothing new was pushed.")
    print(f"{done.seconds:.0f} s, {done.cached} nodes from the cache. The run's page: {done.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
