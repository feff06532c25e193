"""The page of a verdict."""

import re
from pathlib import Path

import pytest

from tests.pipeline import browser, run_page_samples
from tfrec_meta.pipeline.gates.verdict import Verdict
from tfrec_meta.pipeline.pages import verdict_page


def test_shows_the_failed_comparisons(degraded_verdict, tmp_path):
    page = Path(degraded_verdict["verdict"].uri, "verdict.html")
    shown = browser.look(page, 1200, tmp_path).dom
    assert "<h1>Not blessed</h1>" in shown
    assert "Against popularity" in shown
    assert "Against the last blessed model" in shown
    assert shown.count('<g class="failed">') >= 2
    written = page.read_text(encoding="utf-8")  # the file itself, without the probe
    assert not re.search(r"<script|src=|https?://(?!www\.w3\.org)", written)


def test_shows_the_metrics_of_tfma(evaluated_verdict):
    page = Path(evaluated_verdict["verdict"].uri, "verdict.html").read_text()
    assert "<h1>Blessed</h1>" in page
    assert "The ranking signature, by TFMA" in page
    assert "<td>taste=t0</td>" in page


@pytest.mark.parametrize("width", [1280, 800])
def test_a_browser_shows_the_verdict(tmp_path, width):
    record = run_page_samples.verdict(blessed=False)
    verdict = Verdict.from_dict(record)
    path = tmp_path / "verdict.html"
    path.write_text(verdict_page.render(verdict, {"model": "/srv/model"}, record["signature"]))
    seen = browser.look(path, width, tmp_path / "browser")
    assert (seen.console, seen.overflow) == ([], 0)
    assert "ot blessed" in seen.title
    assert "recall@10 on new users is 0.0500 below the last blessed model's" in seen.text
    assert "0.7512" in seen.text
