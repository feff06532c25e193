import io

import pytest

from tfrec_meta.io import progress as module
from tfrec_meta.io.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_quick_work_prints_nothing_off_a_terminal():
    stream = io.StringIO()
    with Progress("reading", 100, stream=stream) as progress:
        progress.advance(100)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("total", "unit", "line"),
    [
        (4 << 20, "B", "fetching: 50% of 4.0 MiB, about 15 s left\n"),
        (None, "B", "fetching: 2.0 MiB\n"),
        (None, "rows", "fetching: 2,097,152 rows\n"),
    ],
)
def test_long_work_prints_plain_lines_off_a_terminal(monkeypatch, total, unit, line):
    now = iter([0.0, 5.0, 15.0, 15.0, 15.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    with Progress("fetching", total, unit, stream=stream) as progress:
        progress.advance(1 << 20)
        progress.advance(1 << 20)
    assert stream.getvalue() == line


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with Progress("fetching", 100, stream=stream) as progress:
        progress.advance(50)
    assert "fetching" in stream.getvalue()
    assert "\r" in stream.getvalue()
