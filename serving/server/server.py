"""A local server with TF Serving's gRPC API, for demos, tests and infra validation.

It needs only Python packages. In production, use TF Serving's own C++ server.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from tfrec_meta.export.signatures import is_version
from tfrec_meta.extras import not_installed
from tfrec_meta.io.stores import RemotePath, any_path
from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol.errors import ServerStartError
from tfrec_meta.serving.protocol.versions import version_folders
from tfrec_meta.serving.server.fetched import FetchedVersions
from tfrec_meta.serving.server.health import add_health_service

if TYPE_CHECKING:
    from tfrec_meta.serving.server.servables import Servables

log = logging.getLogger(__name__)

_MOST_THREADS = 10_000

PathLike = str | os.PathLike[str]


class LocalServer:
    """Serves one model. Start it with `with` or `start()`.

    Args:
        base: the folder with the versions, `<base>/<version>/saved_model.pb`. Versions on an object
            store (s3://, gs://) are fetched into the cache folder; there, a version without a
            manifest is not served.
        host: the address to listen on. An address that other machines can reach needs TLS.
        port: the port; 0 selects a free one, and the attribute `port` then has its number.
        name: name of the model in requests; by default the name of the base folder.
        versions: "latest" (the newest version that loads), "all", or version numbers.
        labels: version numbers by label, for requests with a `version_label`.
        threads: number of calls answered at the same time; by default 4 per CPU, as in TF Serving,
            and at least 16. Further calls are refused with RESOURCE_EXHAUSTED.
        max_message_bytes: size limit of a request and of a response.
        certificate, key: PEM files of the server for TLS; both or none.
        client_ca: PEM file of an authority; clients then need a certificate that it signed.
        insecure: allows an address that other machines can reach without TLS.
        poll_seconds: time between two looks at the base folder for new versions; 0 looks only at
            the start. A version that does not match its manifest, such as one that is still being
            copied, is not served; it is tried again when its files have changed.

    Raises:
        ServerStartError: for options that contradict each other; by `start()` also if there is no
            model to serve, or the port is in use.
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
        poll_seconds: float = 1.0,
    ):
        if isinstance(versions, str) and versions not in ("latest", "all"):
            raise ServerStartError(
                f'`versions`={versions!r}; use "latest", "all" or version numbers.'
            )
        numbers = [] if isinstance(versions, str) else list(versions)
        for version in (*numbers, *(labels or {}).values()):
            if not is_version(version):
                raise ServerStartError(
                    f"`versions` or `labels` has {version!r}; use whole numbers from 1 to "
                    "2**63 - 1."
                )
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ServerStartError(f"`port`={port}; use 0 (any free one) to 65535.", "port")
        if not 0 <= poll_seconds <= threading.TIMEOUT_MAX:
            raise ServerStartError(
                f"`poll_seconds`={poll_seconds}; use 0 (looks only at the start) or more.",
                "poll_seconds",
            )
        if threads is not None and not 1 <= threads <= _MOST_THREADS:
            raise ServerStartError(f"`threads`={threads}; use 1 to {_MOST_THREADS:,}.", "threads")
        if (certificate is None) != (key is None):
            raise ServerStartError(
                f"`certificate`={certificate} and `key`={key}; TLS needs both.",
                "certificate",
                "key",
            )
        if client_ca is not None and certificate is None:
            raise ServerStartError(
                f"`client_ca`={client_ca} needs TLS; use `certificate` and `key`, too."
            )
        if certificate is None and not insecure and not protocol.is_loopback(host):
            raise ServerStartError(
                f"`host`={host!r} can be reached from other machines, and requests contain "
                "personal data. Use `certificate` and `key` for TLS, or `insecure`.",
                "host",
                "certificate",
                "key",
                "insecure",
            )
        place = any_path(base)
        self._fetched = FetchedVersions(place, versions) if isinstance(place, RemotePath) else None
        self.base = self._fetched.folder if self._fetched else Path(base)
        self.name = name or self.base.resolve().name
        self.host, self.port = host, port
        self._versions, self._labels = versions, labels
        self._threads = threads or max(16, 4 * (os.cpu_count() or 1))
        self._max_message_bytes = max_message_bytes
        self._tls = (certificate, key, client_ca)
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None
        self._server: grpc.Server | None = None
        self.servables: Servables | None = None

    @property
    def address(self) -> str:
        """host:port, as `Client` needs it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def start(self) -> LocalServer:
        """Binds the port, loads the model, then answers calls. Imports TensorFlow.

        Raises:
            ServerStartError: if there is no model to serve, or the port is in use.
        """
        if self._fetched:
            self._fetched.start()
        version_folders(self.base)  # finds simple mistakes before the slow import
        server = grpc.server(
            futures.ThreadPoolExecutor(self._threads, thread_name_prefix="tfrec-meta-serving"),
            maximum_concurrent_rpcs=self._threads,
            # With SO_REUSEPORT a second server could bind the same port and get half of the calls.
            options=[("grpc.so_reuseport", 0), *protocol.channel_options(self._max_message_bytes)],
        )
        self.port = self._bind(server)
        try:
            try:
                from tfrec_meta.serving.server.servables import Servables
                from tfrec_meta.serving.server.services import add_services
            except ModuleNotFoundError as error:
                raise not_installed("The local server", error) from error
            servables = Servables(self.base, self.name, self._versions, self._labels)
            servables.refresh()
            add_services(server, servables)
            add_health_service(server, (protocol.PREDICTION_SERVICE, protocol.MODEL_SERVICE))
        except BaseException:
            server.start()  # gRPC frees the port of a started server only
            server.stop(None)
            raise
        self.servables = servables
        self._server = server
        server.start()
        if self._poll_seconds:
            self._stopping.clear()
            self._poller = threading.Thread(
                target=self._poll, args=(servables,), name="tfrec-meta-versions", daemon=True
            )
            self._poller.start()
        return self

    def _poll(self, servables: Servables) -> None:
        """Serves new versions as they appear, until the server stops."""
        problem = ""
        while not self._stopping.wait(self._poll_seconds):
            try:
                if self._fetched:
                    self._fetched.refresh()
                servables.refresh()
                problem = ""
            except Exception as error:  # the versions served before stay
                if problem != (problem := str(error)):
                    log.warning("%s The versions served before stay.", problem)

    def _check_tls(self) -> None:
        kinds = (protocol.CERTIFICATE, protocol.PRIVATE_KEY, protocol.CERTIFICATE)
        names = ("certificate", "key", "client_ca")
        for name, path, kind in zip(names, self._tls, kinds, strict=True):
            try:
                usable = path is None or protocol.is_pem(path, kind)
            except OSError as error:
                raise ServerStartError(f"cannot read the TLS files: {error}") from error
            if not usable:
                raise ServerStartError(
                    f"`{name}`={str(path)!r} is not a PEM file with a {kind.lower()}.", name
                )

    def _bind(self, server: grpc.Server) -> int:
        self._check_tls()
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
        except RuntimeError as error:
            port, reason = 0, f" ({error})"
        else:
            reason = ""
        if port == 0:
            raise ServerStartError(
                f"cannot listen on {self.address}: the port is in use, or the address is not one "
                f"of this machine{reason}. Use another port, or 0 for any free one."
            )
        return port

    def stop(self, grace: float | None = 30.0) -> None:
        """Stops the server.

        Args:
            grace: seconds to finish the calls in progress; new calls are refused.
        """
        if self._server is not None:
            self._stopping.set()
            self._server.stop(grace).wait()
            if self._poller is not None:
                self._poller.join()
                self._poller = None
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
    base: PathLike,
    *,
    port: int = protocol.DEFAULT_PORT,
    grace: float = 30.0,
    on_start: Callable[[str], None] = lambda address: None,
    **options: Any,
) -> None:
    """Serves a model until SIGTERM or SIGINT. Prints `listening on HOST:PORT` once it answers.

    After a signal the server finishes the calls in progress and returns. A second signal ends the
    process immediately.

    Args:
        base: the folder with the versions, local or on an object store.
        port: the port; 0 selects a free one.
        grace: seconds to finish the calls in progress.
        on_start: called with `HOST:PORT` once the server answers.
        options: further options of `LocalServer`.

    Raises:
        ServerStartError: as for `LocalServer`.
    """
    server = LocalServer(base, port=port, **options)
    with _without_keras():
        server.start()
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
        on_start(server.address)
        stop.wait()
        log.info("stopping: finishing the calls in progress")
    finally:
        # Not in the signal handler: gRPC needs locks that the interrupted code may hold.
        server.stop(grace)
        restore()


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Makes `import tensorflow` skip packages that running a SavedModel does not need.

    TensorFlow imports Keras for its optimizers, and Google's API client for cluster resolvers on
    Google Cloud. It accepts that they are missing. Together they take a third of the import time.
    Afterwards both can be imported as usual.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    skipped = [name for name in ("tf_keras", "keras", "googleapiclient") if name not in sys.modules]
    absent: Any = None  # makes an import raise ModuleNotFoundError
    sys.modules.update(dict.fromkeys(skipped, absent))
    try:
        yield
    finally:
        for name in skipped:
            sys.modules.pop(name, None)
