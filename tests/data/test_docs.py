import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_examples_of_the_page_run(monkeypatch, capsys):
    monkeypatch.setenv("TFREC_META_KEY", "")  # restored after the page has set it
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 8
    exec(compile("\n".join(blocks), str(PAGE), "exec"), {})
    shown = capsys.readouterr().out
    assert "5,000 events" in shown
    assert "row 2 (line 3), column `value`: 'two' is not a number" in shown
