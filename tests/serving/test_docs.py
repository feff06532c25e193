"""The example of docs/serving.md."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def test_the_example_of_the_page_runs(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 1
    exec(compile(blocks[0], str(PAGE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[3] == "[2, 5]"
    assert lines[4].startswith("Recommendation(item_id=")
    assert "AVAILABLE" in lines[5]
