"""Forked processes for tests that kill a process or need several, without loading TensorFlow again.

They are forked from a server that has imported TensorFlow and this package but computed nothing, so
that no thread of TensorFlow's runtime is running in it.
"""

import multiprocessing
import os
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["tensorflow", "tfrec_meta.workflows.tune"])


class Script:
    """A Python script that runs in a forked process, with the interface of `subprocess.Popen`.

    Args:
        code: the script, which may be indented; it runs as `__main__`.
        arguments: `sys.argv[1:]`.
        environment: variables that are added to this process's.
    """

    def __init__(self, code: str, *arguments: object, environment: Mapping[str, str] | None = None):
        self._folder = tempfile.TemporaryDirectory(prefix="tfrec-meta-script-")
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        self._process = _FORKSERVER.Process(
            target=_run,
            args=(
                textwrap.dedent(code),
                [str(argument) for argument in arguments],
                {**os.environ, **(environment or {})},
                [str(path) for path in self._outputs],
                list(sys.path),
            ),
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, the negative signal that ended the process, or None while it runs."""
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; returns standard output and standard error.

        Raises:
            TimeoutError: if the process still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"The script still runs after {timeout} s.")
        out, err = (path.read_text() if path.exists() else "" for path in self._outputs)
        return out, err

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _run(code, arguments, environment, outputs, path):
    for descriptor, output in zip((1, 2), outputs, strict=True):
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.path[:] = path
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})
    sys.stdout.flush()
