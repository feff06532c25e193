"""`tfrec-meta serve`: serves an exported model on this machine."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Any

from tfrec_meta.checks import at_least, check
from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, argument, command, note, option
from tfrec_meta.commands.values import REMOTE_FOLDER, ExistingFile

_BASE = str(options.MODELS / options.folder_name(options.RUN))


@command(
    "serve",
    "models/first --port 8500",
    "models/first --port 0                     (any free port; the command prints it)",
    "s3://bucket/models/shop --poll-seconds 30",
    details="The server runs until SIGTERM or Ctrl-C.",
    has_result=False,
)
@argument(
    "base",
    default=_BASE,
    type=REMOTE_FOLDER,
    metavar="[FOLDER]",
    help=f"Folder of the exported model, also s3:// or gs:// (default {_BASE}).",
)
@option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@option("--port", type=int, default=8500, show_default=True, metavar="N", help="0: any free port.")
@option("--name", help="Name of the model in requests (default: the name of FOLDER).")
@option(
    "--threads", type=int, metavar="N", help="Number of calls that are answered at the same time."
)
@option("--certificate", type=ExistingFile(), metavar="FILE", help="PEM file, for TLS.")
@option("--key", type=ExistingFile(), metavar="FILE", help="PEM file, for TLS.")
@option("--insecure", is_flag=True, help="Listen beyond this machine without TLS.")
@option(
    "--poll-seconds",
    type=float,
    default=1.0,
    metavar="SECONDS",
    show_default=True,
    help="Time between checks for new versions; 0 checks only at the start.",
)
@option(
    "--grace",
    type=float,
    default=30.0,
    metavar="SECONDS",
    show_default=True,
    help="Time limit for calls in progress after the signal to stop.",
)
def serve(base: str, **server: Any) -> Result:
    """Serves the model until a signal stops the server."""
    from tfrec_meta.serving import serve as serve_model

    check("grace", server["grace"], at_least(0))
    # The server logs the version it serves, and why it skipped other versions.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    request = _request(base, server)
    serve_model(
        base,
        on_start=lambda address: note("next: " + request.replace("{}", shlex.quote(address))),
        **server,
    )
    return Result({})


def _request(base: str, server: dict[str, Any]) -> str:
    """The command that sends a request to this server, with {} for its address."""
    name = server["name"] or options.folder_name(base)
    words = ["--model", name]
    run = Path(options.RUN).with_name(name)
    words += ["--run", str(run), "--user", "ID"] if run.is_dir() else ["--history", "ID,ID"]
    if server["certificate"] is not None:
        words += ["--tls", server["certificate"]]
    elif server["insecure"]:
        words += ["--insecure"]
    return f"tfrec-meta recommend --server {{}} {shlex.join(words)}"
