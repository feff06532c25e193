"""Object stores on this machine, and a proxy before them with faults."""

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BUCKET = "shop"
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
DENIED = (
    403,
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>',
)
BROKEN = (
    500,
    b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>broken</Message></Error>',
)

Rule = Callable[[str, str], tuple[int, bytes] | float | None]
"""Of a method and a path: an answer in place of the store's, seconds to wait first, or None."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Moto's S3 on loopback; yields its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line per request

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def gs_server() -> Iterator[str]:
    """An emulator of Google Cloud Storage on loopback, with one bucket; yields its URL."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def request(url: str, method: str, body: bytes = b"") -> int:
    """Sends one request without a signature, and returns the status."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body)
        return connection.getresponse().status
    finally:
        connection.close()


class Proxy:
    """Forwards requests to a store, by a rule that a test sets.

    Attributes:
        url: of the proxy.
        rule: what happens to a request.
        seen: method and path of all requests.
    """

    def __init__(self, store: str) -> None:
        self.rule: Rule = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        proxy, upstream = self, urlsplit(store).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.seen.append((self.command, self.path))
                verdict = proxy.rule(self.command, self.path)
                if isinstance(verdict, tuple):
                    self.answer(*verdict, {"Content-Type": "application/xml"})
                    return
                if verdict is not None:
                    time.sleep(verdict)
                connection = http.client.HTTPConnection(upstream, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
                try:
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    content = response.read()
                except OSError:  # the test has ended
                    self.close_connection = True
                    return
                kept = {k: v for k, v in response.getheaders() if k.lower() not in _HOP}
                length = response.getheader("Content-Length") or str(len(content))
                self.answer(response.status, content, kept, length)
                connection.close()

            def answer(self, status, content, headers, length=None) -> None:
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", length or str(len(content)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(content)
                except OSError:  # the client has given up
                    self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
