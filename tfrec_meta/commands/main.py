"""The command `tfrec-meta`: from interactions to recommendations, a step a command.

Nothing here imports TensorFlow by itself: a command that trains or loads a model does so when it
gets there, so that `--help`, `fetch` and `recommend` are quick.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import __version__
from tfrec_meta.commands import (
    cold_start as cold_start_command,
)
from tfrec_meta.commands import (
    distill as distill_command,
)
from tfrec_meta.commands import (
    studies as studies_command,
)
from tfrec_meta.commands import (
    tune as tune_command,
)
from tfrec_meta.commands.options import (
    add_data_options,
    add_strategy_options,
    given_settings,
    names,
)

_RUN = "runs/first"
_MODELS = Path("models")  # where exported models are, each by the name of its run's folder
_SERVER = "127.0.0.1:8500"

Answer = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0 done; 1 something went wrong, said in one line on standard error; 2 the
        command line makes no sense; 130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(arguments)
    if not options.debug:
        # TensorFlow's own log would drown what a command has to say; what stops it is raised.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        # Whatever libraries print must not get between a machine and its JSON object.
        aside = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
        with aside, _without_repeated_warnings(options):
            answer = options.command(options)
        if options.json:
            print(json.dumps(answer))
        return int(answer.get("status", 0))
    except KeyboardInterrupt:
        again = shlex.join(["tfrec-meta", *(a for a in arguments if a != "--overwrite")])
        goes_on = options.command in (_train, tune_command.tune, distill_command.distill)
        on = "goes on where it stopped" if goes_on else "begins it again"
        print(f"\ninterrupted: `{again}` {on}.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tfrec-meta … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if options.debug:
            raise
        print(f"error: {_in_flags(_one_line(error), options)}", file=sys.stderr)
        return 1


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError, RuntimeError, ImportError)) and text:
        return text
    # Not an error that was made for people, so its kind and place are worth a look.
    return f"{type(error).__name__}: {text} (`--debug` shows where)"


def _in_flags(text: str, options: argparse.Namespace) -> str:
    """What the library says of its arguments, said of the command's options."""
    text = text.replace("`address`", "`server`").replace("insecure=True", "insecure")

    def flag(name: str) -> str:
        return f"-{name}" if len(name) == 1 else "--" + name.replace("_", "-")

    def has(name: str) -> bool:
        return name in vars(options) and name not in ("base", "names", "command", "json", "debug")

    def value(found: re.Match[str]) -> str:  # bad_rows='drop'
        return f"{flag(found[1])} {found[2]}" if has(found[1]) else found[0]

    def argument(found: re.Match[str]) -> str:  # `timeout`; but not: column `timeout`
        return flag(found[1]) if has(found[1]) else found[0]

    text = re.sub(r"\bcolumns=\{'(\w+)': ?\.\.\.\}", r"--columns \1=...", text)
    text = re.sub(r"(?<![\w.`])(\w+)='(\w+)'", value, text)
    return re.sub(r"(?<!column )(?<!for )(?<!\()`(\w+)`", argument, text)


@contextlib.contextmanager
def _without_repeated_warnings(options: argparse.Namespace) -> Iterator[None]:
    """What reading a run's data drops, `train` says; the others, which read it again, do not."""
    log = logging.getLogger("tfrec_meta.data")
    before = log.level
    reading = (_evaluate, _report, _export, _recommend, cold_start_command.cold_start)
    if options.command in reading and not options.debug:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


# --- Commands --------------------------------------------------------------------------------


def _fetch(options: argparse.Namespace) -> Answer:
    from tfrec_meta.data import fetch_movielens

    places = {}
    for given in options.names:
        name = given.removeprefix("movielens-")
        places[f"movielens-{name}"] = str(fetch_movielens(name, options.cache))
    for name, place in places.items():
        print(f"{name}: {place}")
    return {"data": places}


def _train(options: argparse.Namespace) -> Answer:
    from tfrec_meta.workflows.runs import Run

    run = Run.begin(options.run, given_settings(options), options.overwrite)
    if run.is_trained:
        _say(f"{run.folder} is trained already; --overwrite would train it again.")
        model, seconds = run.model(), 0.0
    else:
        split = run.split
        _say(f"{split.data!r}, {split.description}: {len(split.train_index):,} events to train on")
        began = time.monotonic()
        model = run.train()
        seconds = time.monotonic() - began
        print(f"trained {model.family} in {seconds:.1f} s: {run.folder / 'model'}")
        if model.curve:
            last = model.curve[-1]
            print(", ".join(f"{k} {v:.4g}" for k, v in last.items() if k != "seconds"))
        print(f"next: tfrec-meta evaluate --run {shlex.quote(str(run.folder))}")
    return {
        "run": str(run.folder),
        "model": str(run.folder / "model"),
        "family": model.family,
        "events": len(run.split.train_index),
        "seconds": seconds,
        "curve": [dict(epoch) for epoch in model.curve],
    }


def _evaluate(options: argparse.Namespace) -> Answer:
    from tfrec_meta.workflows.runs import Run

    run = Run.open(options.run)
    baselines = options.baselines
    if baselines is not None:
        baselines = [] if baselines == "none" else names(baselines)
    found = run.evaluate(options.k, baselines, options.resamples)
    print(f"{run.split.data.name}, {run.split.description}: the full catalogue is ranked")
    _print_table(found, options.k)
    print(f"all metrics, with 95 % intervals: {run.folder / 'evaluation.json'}")
    print(f"next: tfrec-meta report --run {shlex.quote(str(run.folder))}")
    return {
        "run": str(run.folder),
        "k": options.k,
        "split": run.split.description,
        "evaluations": {name: one.as_dict() for name, one in found.items()},
    }


def _report(options: argparse.Namespace) -> Answer:
    from tfrec_meta.workflows.runs import Run

    path = Run.open(options.run).report(options.to, names(options.users), options.k)
    print(f"report: {path}")
    return {"report": str(path)}


def _export(options: argparse.Namespace) -> Answer:
    from tfrec_meta.workflows.runs import Run

    run = Run.open(options.run)
    model = run.model()
    from tfrec_meta.workflows.export import ExportConfig, export

    config = ExportConfig(
        k=options.k,
        max_k=options.max_k,
        filters=tuple(names(options.filters)),
        diversity=options.diversity,
        recommend_history=options.recommend_history,
    )
    to = str(_MODELS / _name_of(options.run)) if options.to is None else options.to
    folder = export(model, to, config, version=options.version, evaluations=run.evaluations())
    print(f"exported: {folder}")
    print(f"next: tfrec-meta serve {shlex.quote(to)}")
    return {"export": str(folder), "model": _name_of(to), "version": int(folder.name)}


def _serve(options: argparse.Namespace) -> Answer:
    from tfrec_meta.serving import serve

    # A server says which version it took, and which it skipped and why.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with contextlib.redirect_stdout(_ThenNext(sys.stdout, _question(options))):
        serve(
            options.base,
            host=options.host,
            port=options.port,
            name=options.name,
            threads=options.threads,
            certificate=options.certificate,
            key=options.key,
            insecure=options.insecure,
            grace=options.grace,
        )
    return {}


class _ThenNext(io.TextIOBase):
    """Standard output that adds on standard error, after `listening on HOST:PORT`, what is next.

    Args:
        out: where everything goes.
        question: the command that asks, with {} for the address.
    """

    def __init__(self, out: Any, question: str):
        self._out, self._question, self._address = out, question, ""

    def write(self, text: str) -> int:
        if text.startswith("listening on "):
            self._address = text.split()[-1]
        return int(self._out.write(text))

    def flush(self) -> None:
        self._out.flush()
        address, self._address = self._address, ""
        if address:
            _say("next: " + self._question.replace("{}", shlex.quote(address)))


def _question(options: argparse.Namespace) -> str:
    """How to ask the server of these options, with {} for its address."""
    name = options.name or _name_of(options.base)
    words = ["--model", name]
    run = Path(_RUN).with_name(name)
    words += ["--run", str(run), "--user", "ID"] if run.is_dir() else ["--history", "ID,ID"]
    if options.certificate is not None:
        words += ["--tls", options.certificate]
    elif options.insecure:
        words += ["--insecure"]
    return f"tfrec-meta recommend --server {{}} {shlex.join(words)}"


def _recommend(options: argparse.Namespace) -> Answer:
    from tfrec_meta.serving import Client

    history, titles, warnings = names(options.history), {}, []
    known: set[str] = set()
    model = _name_of(options.run or _RUN) if options.model is None else options.model
    if options.run is not None:
        from tfrec_meta.workflows.runs import Run

        run = Run.open(options.run)
        titles, known = run.titles(), set(run.split.data.item_ids)
        if options.user and not history:
            history = run.history(options.user)
            if not history:
                warnings.append(
                    f"{options.run} knows no user {options.user!r}; these are the popular items."
                )
    served = _served_titles(options.titles, _MODELS / model)
    titles |= {item: title for item, title in served.items() if title != item}
    unknown = [item for item in history if item not in (served or known)]
    if unknown and options.history and (served or known):
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        rest = "" if len(unknown) < len(history) else "; these are the popular items"
        named = ", ".join(map(repr, unknown[:5]))
        warnings.append(f"the catalogue has no {named}{more}, of --history{rest}.")
    for warning in warnings:
        _say(f"warning: {warning}")
    with Client(
        options.server,
        model,
        timeout=options.timeout,
        tls=options.tls,
        insecure=options.insecure,
    ) as client:
        found = client.recommend(
            options.user, history=history, exclude=names(options.exclude), k=options.k
        )
    if not found:
        print("no recommendations: nothing of the catalogue is left.")
    for place, one in enumerate(found, 1):
        title = titles.get(one.item_id)
        named = f"{title}  ({one.item_id})" if title else one.item_id
        print(f"{place:>3}. {one.score:8.4f}  {named}")
    return {
        "user": options.user,
        "model": model,
        "history": history,
        "warnings": warnings,
        "recommendations": [
            {"item_id": one.item_id, "score": one.score, "title": titles.get(one.item_id)}
            for one in found
        ],
    }


def _adapt(options: argparse.Namespace) -> Answer:
    from tfrec_meta.serving import Client

    support: dict[str, float | None] = {}
    for word in names(options.items):
        item, _, label = word.partition("=")
        try:
            support[item] = float(label) if label else None
        except ValueError:
            raise ValueError(f"`items`={word!r}; a label is a number, as in 50=0.") from None
    titles = _served_titles(options.titles, _MODELS / options.model)
    with Client(
        options.server,
        options.model,
        timeout=options.timeout,
        tls=options.tls,
        insecure=options.insecure,
    ) as client:
        (found,) = client.adapt([support], exclude=[names(options.exclude)], k=options.k)
    if found.support_used < len(support):
        _say(f"warning: the model knows {found.support_used} of the {len(support)} items.")
    for place, one in enumerate(found.items, 1):
        title = titles.get(one.item_id, one.item_id)
        named = f"{title}  ({one.item_id})" if title != one.item_id else title
        print(f"{place:>3}. {one.score:8.4f}  {named}")
    return {
        "model": options.model,
        "support": support,
        "support_used": found.support_used,
        "recommendations": [
            {"item_id": one.item_id, "score": one.score, "title": titles.get(one.item_id)}
            for one in found.items
        ],
    }


def _doctor(options: argparse.Namespace) -> Answer:
    from tfrec_meta.commands import doctor

    if not options.json:
        return {"status": doctor.report()}
    checks = doctor.run_checks()
    status = int(any(check.needed and not check.ok for check in checks))
    return {"status": status, "checks": [dataclasses.asdict(check) for check in checks]}


# --- What the commands share -----------------------------------------------------------------


def _served_titles(given: str | None, usual: Path) -> dict[str, str]:
    """Titles (or ids) of an exported model's items; of the usual place only if it is there."""
    if given is None and not usual.is_dir():
        return {}
    from tfrec_meta.serving import Catalogue

    catalogue = Catalogue.read(usual if given is None else given)
    return {item: catalogue.title(item) for item in catalogue}


def _name_of(folder: str) -> str:
    """The name of a folder, which is that of the model in it."""
    return Path(folder).resolve().name


def _print_table(found: Mapping[str, Any], k: int) -> None:
    """The metrics that people ask for first, in a line that a terminal holds."""
    names = [f"{metric}@{k}" for metric in ("ndcg", "recall", "hr", "map", "coverage")]
    print(f"{'model':<22}{names[0]:<26}" + "".join(f"{name:>13}" for name in names[1:]))
    for model, one in found.items():
        others = "".join(f"{one[name].value:>13.4f}" for name in names[1:])
        print(f"{model:<22}{one[names[0]]!s:<26}{others}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- The command line ------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfrec-meta",
        description="From raw interactions to a served recommender, in TensorFlow.",
        epilog=(
            "in this order, each with its own --help:\n"
            "  tfrec-meta fetch\n"
            "  tfrec-meta train\n"
            "  tfrec-meta evaluate\n"
            "  tfrec-meta report\n"
            "  tfrec-meta export\n"
            "  tfrec-meta serve\n"
            "  tfrec-meta recommend --run runs/first --user 42    (in another terminal)\n\n"
            "exit status: 0 done, 1 something went wrong, 2 usage, 130 interrupted"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfrec-meta {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Any, text: str, *examples: str, group: str = "", among: Any = commands
    ) -> argparse.ArgumentParser:
        words = f"tfrec-meta {group} {name}" if group else f"tfrec-meta {name}"
        one = among.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog="examples:\n" + "\n".join(f"  {words} {e}".rstrip() for e in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(command=run, json=False)
        if run is not _serve:
            one.add_argument(
                "--json", action="store_true", help="print one JSON object, for machines"
            )
        one.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return one

    def run_folder(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "--run", default=_RUN, metavar="FOLDER", help=f"the run folder (default {_RUN})"
        )

    def server_options(one: argparse.ArgumentParser) -> None:
        one.add_argument(
            "--server", default=_SERVER, metavar="HOST:PORT", help=f"default {_SERVER}"
        )
        one.add_argument("--exclude", metavar="IDS", help="items not to recommend, with commas")
        one.add_argument("-k", type=int, default=10, help="how many (default 10)")
        one.add_argument(
            "--titles",
            metavar="FOLDER",
            help="take titles from this exported model (default: models/NAME, where it is there)",
        )
        one.add_argument(
            "--timeout", type=float, default=10.0, metavar="SECONDS", help="default 10"
        )
        one.add_argument(
            "--tls",
            nargs="?",
            const=True,
            default=False,
            metavar="FILE",
            help="use TLS, with this PEM file of certificate authorities or the public ones",
        )
        one.add_argument("--insecure", action="store_true", help="ask another machine without TLS")

    one = command(
        "fetch", _fetch, "fetch MovieLens into the cache folder", "", "100k 1m", "--cache data 25m"
    )
    one.add_argument(
        "names",
        nargs="*",
        default=["100k"],
        metavar="NAME",
        help="100k (default), 1m, 20m, 25m, 32m or latest-small",
    )
    one.add_argument(
        "--cache", metavar="FOLDER", help="instead of $TFREC_META_CACHE or the user's cache folder"
    )

    one = command(
        "train",
        _train,
        "train a model into a run folder, or go on with a training that was stopped",
        "",
        "--run runs/ease --family ease",
        "--run runs/time --split time --epochs 20 --seed 1",
        "--run runs/shop --data log.csv --columns user_id=customer,item_id=product",
        "--run runs/wide --strategy wide.json",
    )
    run_folder(one)
    add_data_options(one)
    add_strategy_options(one)
    one.add_argument("--overwrite", action="store_true", help="replace the run in that folder")

    tune_command.add_command(command)
    distill_command.add_command(command)

    one = command(
        "evaluate",
        _evaluate,
        "rank the full catalogue for the test users, beside the baselines",
        "",
        "--run runs/first -k 20 --baselines popularity,ease",
        "--run runs/first --json",
    )
    run_folder(one)
    one.add_argument("-k", type=int, default=10, help="length of the lists (default 10)")
    one.add_argument(
        "--baselines",
        metavar="NAMES",
        help="of popularity, item_knn, ease, ials, with commas; or none (default: all)",
    )
    one.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="bootstrap draws for the intervals (default 1000)",
    )

    one = command(
        "report",
        _report,
        "write the HTML report of a run; evaluates it first, if that was not done",
        "",
        "--run runs/first --users 1,2 --to first.html",
    )
    run_folder(one)
    one.add_argument("--users", metavar="IDS", help="whose recommendations to show, with commas")
    one.add_argument("-k", type=int, default=10, help="recommendations a user (default 10)")
    one.add_argument("--to", metavar="FILE", help="default: report.html in the run folder")

    cold_start_command.add_command(command)

    one = command(
        "export",
        _export,
        "export a run's model as a SavedModel for TF Serving",
        "",
        "--run runs/first --to models/shop --version 7",
        "--filters genres --diversity",
    )
    run_folder(one)
    one.add_argument(
        "--to",
        metavar="FOLDER",
        help="of the served model; a version folder is made in it (default: models/NAME, NAME "
        "being that of the run folder)",
    )
    one.add_argument("--version", type=int, metavar="N", help="default: the next one")
    one.add_argument("-k", type=int, default=10, help="answers by default (default 10)")
    one.add_argument("--max-k", type=int, default=100, help="answers at most (default 100)")
    one.add_argument("--filters", metavar="NAMES", help="item categories to filter by, with commas")
    one.add_argument(
        "--diversity", action="store_true", help="let requests ask for diverse answers"
    )
    one.add_argument(
        "--recommend-history", action="store_true", help="recommend items of the history again"
    )

    one = command(
        "serve",
        _serve,
        "serve an exported model over TF Serving's gRPC API, until SIGTERM or Ctrl-C",
        "",
        "models/first --port 8500",
        "models/first --port 0                     (any free port; it prints which)",
    )
    base = str(_MODELS / _name_of(_RUN))
    one.add_argument(
        "base", nargs="?", default=base, help=f"folder of the exported model (default {base})"
    )
    one.add_argument("--host", default="127.0.0.1", help="to listen on (default 127.0.0.1)")
    one.add_argument("--port", type=int, default=8500, help="0 for any free one (default 8500)")
    one.add_argument("--name", help="of the model in requests (default: the folder's name)")
    one.add_argument("--threads", type=int, metavar="N", help="calls answered at the same time")
    one.add_argument("--certificate", metavar="FILE", help="PEM, for TLS")
    one.add_argument("--key", metavar="FILE", help="PEM, for TLS")
    one.add_argument(
        "--insecure", action="store_true", help="listen beyond this machine without TLS"
    )
    one.add_argument(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="that calls under way have once it is told to stop (default 30)",
    )

    one = command(
        "recommend",
        _recommend,
        "ask a server for recommendations over gRPC",
        "--user 42 --run runs/first",
        "--user 42 --history 50,181,1 -k 5",
        "--server 127.0.0.1:8500 --model shop --history 50 --titles models/shop --json",
    )
    one.add_argument(
        "--model",
        metavar="NAME",
        help=f"default: the name of the run folder, {_name_of(_RUN)} without --run",
    )
    one.add_argument("--user", default="", metavar="ID", help="default: nobody in particular")
    one.add_argument("--history", metavar="IDS", help="items, oldest first, with commas")
    one.add_argument(
        "--run", metavar="FOLDER", help="take the user's history from the data of this run"
    )
    server_options(one)

    one = command(
        "adapt",
        _adapt,
        "ask a server for recommendations for someone new, by a few items",
        "--items 50,181 --model newcomers",
        "--items 50,181=0 --exclude 1 -k 5      (181: not for me)",
    )
    one.add_argument(
        "--items",
        metavar="IDS",
        help="with commas; ID=LABEL with a label from 0 to 1, or a rating (default: liked)",
    )
    one.add_argument(
        "--model", metavar="NAME", default=_name_of(_RUN), help=f"default {_name_of(_RUN)}"
    )
    server_options(one)

    command("doctor", _doctor, "say what is installed, whether it works, and what mends it", "")

    among = studies_command.add_group(commands)
    studies_command.add_commands(functools.partial(command, group="studies", among=among))
    return parser


if __name__ == "__main__":
    sys.exit(main())
