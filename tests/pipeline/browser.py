"""Opens a page in headless Chromium and returns what it displays."""

import dataclasses
import importlib.util
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "bootstrap", Path(__file__).parents[2] / "bootstrap.py"
)
bootstrap = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bootstrap)

# The pages have no script; a copy gets one, which measures them.
_PROBE = """<script>
const wide = document.documentElement;
wide.dataset.seen = [wide.scrollWidth, wide.clientWidth].join(" ");
</script></body>"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A page as a browser displays it.

    Attributes:
        title: of the page.
        dom: its elements, as HTML.
        text: its text, with white space collapsed.
        console: messages on the console, and resources that failed to load.
        overflow: by how many pixels it is wider than the window.
    """

    title: str
    dom: str
    text: str
    console: list[str]
    overflow: int


def look(path: Path, width: int, folder: Path) -> Seen:
    """Opens a page; skips the test where there is no browser.

    Args:
        path: the HTML file.
        width: of the window, in pixels.
        folder: an empty folder for the browser.
    """
    command = bootstrap.find_browser()
    if command is None:
        pytest.skip(
            "No browser is installed: run `make browser`, install Chromium, or set "
            "CHROME=/path/to/chromium."
        )
    text = path.read_text("utf-8")
    assert text.count("</body>") == 1
    copy = path.with_name(f".seen-{width}.html")  # in the same folder, for its relative links
    copy.write_text(text.replace("</body>", _PROBE), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    options += ["--enable-logging=stderr", f"--window-size={width},1000", "--hide-scrollbars"]
    done = subprocess.run(
        [command, *options, "--disable-dev-shm-usage", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    copy.unlink()
    assert done.returncode == 0, done.stderr[-2000:]
    dom = done.stdout
    measured = re.search(r'data-seen="(\d+) (\d+)"', dom)
    assert measured, f"the page did not load completely: {dom[:500]} {done.stderr[-2000:]}"
    body = re.sub(r"(?s)<(style|script)\b.*?</\1>", " ", dom)
    return Seen(
        title=unescape(re.search(r"(?s)<title>(.*?)</title>", dom).group(1)),
        dom=dom,
        text=" ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split()),
        console=re.findall(r"CONSOLE.*|.*net::ERR_.*", done.stderr),
        overflow=int(measured.group(1)) - int(measured.group(2)),
    )
