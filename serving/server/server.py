"""A local server with TF Serving's gRPC API, for demos, tests and infra validation.

TF Serving's own C++ server is the one for production; this one needs nothing but Python packages.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection, Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.protocol.versions import version_folders
from tfrec_meta.serving.server.health import add_health_service

if TYPE_CHECKING:
    from tfrec_meta.serving.server.servables import Servables

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]


class LocalServer:
    """Serves one model. Start it with `with` or `start()`.

    Args:
        base: folder with the versions, `<base>/<version>/saved_model.pb`.
        host: address to listen on. One that other machines can reach needs TLS.
        port: 0 picks a free one, which `port` then tells.
        name: the model's name in requests; by default that of the base folder.
        versions: "latest" (the newest that loads), "all", or version numbers.
        labels: label to version number, for requests that name a `version_label`.
        threads: calls answered at the same time; TF Serving's own default is 4 a CPU. Like there, a
            call above that is refused with RESOURCE_EXHAUSTED.
        max_message_bytes: size limit of a request and of an answer.
        certificate, key: PEM files of the server; both or none.
        client_ca: PEM file; clients then need a certificate that it signed.
        insecure: listens beyond this machine without TLS.

    Raises:
        ServerStartError: for options that contradict each other, and by `start()` for nothing to
            serve or a port in use.
    """

    def __init__(
        self,
        base: PathLike,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        name: str | None = None,
        versions: str | Collection[int] = "latest",
        labels: Mapping[str, int] | None = None,
        threads: int | None = None,
        max_message_bytes: int = protocol.MAX_MESSAGE_BYTES,
        certificate: PathLike | None = None,
        key: PathLike | None = None,
        client_ca: PathLike | None = None,
        insecure: bool = False,
    ):
        if isinstance(versions, str) and versions not in ("latest", "all"):
            raise ServerStartError(
                f'`versions`={versions!r}; use "latest", "all" or version numbers.'
            )
        if not 0 <= port <= 65535:
            raise ServerStartError(f"`port`={port}; use 0 (any free one) to 65535.", "port")
        if threads is not None and threads < 1:
            raise ServerStartError(f"`threads`={threads}; use 1 or more.", "threads")
        if (certificate is None) != (key is None):
            raise ServerStartError(
                f"`certificate`={certificate} and `key`={key}; TLS needs both.",
                "certificate",
                "key",
            )
        if client_ca is not None and certificate is None:
            raise ServerStartError(
                f"`client_ca`={client_ca} needs TLS; give `certificate` and `key` too."
            )
        if certificate is None and not insecure and not protocol.is_loopback(host):
            raise ServerStartError(
                f"`host`={host!r} can be reached from other machines, and requests tell what "
                "people like. Give `certificate` and `key` for TLS, or use `insecure`.",
                "host",
                "certificate",
                "key",
                "insecure",
            )
        self.base = Path(base)
        self.name = name or self.base.resolve().name
        self.host, self.port = host, port
        self._versions, self._labels = versions, labels
        self._threads = threads or max(16, 4 * (os.cpu_count() or 1))
        self._max_message_bytes = max_message_bytes
        self._tls = (certificate, key, client_ca)
        self._server: grpc.Server | None = None
        self.servables: Servables | None = None

    @property
    def address(self) -> str:
        """host:port, as a client wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def start(self) -> LocalServer:
        """Takes the port, loads the model, then answers calls. Imports TensorFlow.

        Raises:
            ServerStartError: see the class.
        """
        version_folders(self.base)  # the cheap mistakes before the slow import
        server = grpc.server(
            futures.ThreadPoolExecutor(self._threads, thread_name_prefix="tfrec-meta-serving"),
            maximum_concurrent_rpcs=self._threads,
            # With SO_REUSEPORT a second server would take the same port and half of the calls.
            options=[("grpc.so_reuseport", 0), *protocol.channel_options(self._max_message_bytes)],
        )
        self.port = self._bind(server)
        try:
            from tfrec_meta.serving.server.servables import Servables
            from tfrec_meta.serving.server.services import add_services

            servables = Servables(self.base, self.name, self._versions, self._labels)
            servables.refresh()
            add_services(server, servables)
            add_health_service(server, (protocol.PREDICTION_SERVICE, protocol.MODEL_SERVICE))
        except BaseException:
            server.stop(None)  # gives the port back
            raise
        self.servables = servables
        self._server = server
        server.start()
        return self

    def _bind(self, server: grpc.Server) -> int:
        certificate, key, client_ca = self._tls
        try:
            if certificate is None or key is None:
                port = server.add_insecure_port(self.address)
            else:
                port = server.add_secure_port(
                    self.address,
                    grpc.ssl_server_credentials(
                        [(Path(key).read_bytes(), Path(certificate).read_bytes())],
                        root_certificates=client_ca and Path(client_ca).read_bytes(),
                        require_client_auth=client_ca is not None,
                    ),
                )
        except OSError as error:
            raise ServerStartError(f"can't read the TLS files: {error}") from error
        except RuntimeError as error:
            port, reason = 0, f" ({error})"
        else:
            reason = ""
        if port == 0:
            raise ServerStartError(
                f"can't listen on {self.address}: the port is in use, or the address is not this "
                f"machine's{reason}. Use another port, or 0 for any free one."
            )
        return port

    def stop(self, grace: float | None = 30.0) -> None:
        """Takes no more calls, answers those under way for up to `grace` seconds, then ends."""
        if self._server is not None:
            self._server.stop(grace).wait()
            self._server = None
            self.servables = None

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def serve(
    base: PathLike, *, port: int = protocol.DEFAULT_PORT, grace: float = 30.0, **options: Any
) -> None:
    """Serves until SIGTERM or SIGINT; prints `listening on HOST:PORT` once it answers.

    Then it takes no more calls, answers those under way for up to `grace` seconds and returns. A
    second signal ends the process at once.

    Args:
        options: as of `LocalServer`.

    Raises:
        ServerStartError: as `LocalServer`.
    """
    server = LocalServer(base, port=port, **options).start()
    stop = threading.Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: object) -> None:
        restore()
        stop.set()

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, on_signal)
        print(f"listening on {server.address}", flush=True)
        stop.wait()
        log.info("stopping: answering the calls under way")
    finally:
        # Not in the handler: gRPC takes locks that the interrupted code may hold.
        server.stop(grace)
        restore()
