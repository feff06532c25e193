"""A small log whose facts are counted by hand."""

from pathlib import Path

ROWS = """\
a,p1,2026-01-01,view
a,p1,2026-01-02,view
a,p2,2026-01-03,purchase
b,p1,2026-01-04,view
b,p1,2026-01-05,purchase
b,p2,2026-01-06,view
c,p3,2026-01-07,view
c,p1,2026-01-08,view
d,p3,2026-01-09,view
a,p4,2026-01-10,view
,p1,2026-01-03,view
b,p1,soon,view
a,p1,2026-01-01,view
"""


def write_log(folder: Path, header: str = "customer,product,when,action", rows: str = ROWS) -> Path:
    """Writes `log.csv`: 13 rows, of which one has no user, one no time, and one is a copy.

    The ten events are of four users with four items. One of eight pairs has two views. In the last
    two events, one of two users and one of two items is new.
    """
    path = folder / "log.csv"
    path.write_text(f"{header}\n{rows}", encoding="utf8")
    return path
