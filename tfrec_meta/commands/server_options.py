"""The options of a server that a command calls."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from tfrec_meta.commands.base import option
from tfrec_meta.commands.options import collected
from tfrec_meta.commands.values import ExistingFile

if TYPE_CHECKING:
    from tfrec_meta.serving import Client

_SERVER = "127.0.0.1:8500"


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """How a server is reached, as given on the command line."""

    server: str
    timeout: float
    tls: str | None
    insecure: bool

    def client(self, model: str) -> Client:
        """Returns a client of a served model."""
        from tfrec_meta.serving import Client

        # `--tls` without a file: the public certificate authorities.
        tls = False if self.tls is None else self.tls or True
        return Client(self.server, model, timeout=self.timeout, tls=tls, insecure=self.insecure)


def server_options(function: Any) -> Any:
    """Declares the options of a server, which the command gets as `server`."""
    connection = functools.partial(option, section="Connection")
    options = [
        connection(
            "--server",
            default=_SERVER,
            metavar="HOST:PORT",
            parameters=("address",),
            show_default=True,
            help="Address of the server.",
        ),
        connection(
            "--timeout",
            type=float,
            default=10.0,
            metavar="SECONDS",
            show_default=True,
            help="Time limit for an answer.",
        ),
        connection(
            "--tls",
            empty=True,
            type=ExistingFile(optional=True),
            is_flag=False,
            flag_value="",
            metavar="[FILE]",
            help="Use TLS, with the certificate authorities of this PEM file or the public ones.",
        ),
        connection("--insecure", is_flag=True, help="Connect to another machine without TLS."),
    ]
    return collected(ServerOptions, "server", options)(function)
