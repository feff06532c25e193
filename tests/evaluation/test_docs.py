import re
from pathlib import Path

import pytest

pytest.importorskip("jinja2")

PAGE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_examples_of_the_evaluation_page_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 8
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
    shown = capsys.readouterr().out
    assert "80 candidates" in shown
    assert "ndcg@10: +0." in shown
    assert shown.rstrip().endswith("True")
