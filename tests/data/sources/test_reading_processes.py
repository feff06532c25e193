"""Processes that read invalid files end with status 1 and one message, and never abort."""

import subprocess
import sys

import pytest

_ROWS = "".join(f"u{n % 50},i{n % 70},{1 + n % 5}\n" for n in range(60_000))
_SCRIPT = """
import sys
from tfrec_meta.data import read_interactions
try:
    read_interactions(sys.argv[1])
except ValueError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("u,i", "2 cells instead of 3"),
        ("u,i,many", "column `value`: 'many'"),
        ('u,"i,3', "none closes it"),
    ],
)
def test_a_bad_row_ends_a_process_with_status_one_and_one_message(tmp_path, row, words):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,value\n" + _ROWS + row + "\n" + _ROWS)
    for _ in range(3):
        command = [sys.executable, "-c", _SCRIPT, str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert "row 60001 (line 60002)" in done.stderr
        assert words in done.stderr
