"""Studies that come with the package, so that the first search begins warm.

`benchmarks.record_studies` makes them, from made and public data.
"""

from __future__ import annotations

from pathlib import Path

from tfrec_meta.tuning.studies.store import StudyRecord, StudyStore

FOLDER = Path(__file__).parent / "shipped_studies"


def shipped_studies() -> list[StudyRecord]:
    """All of them; none, if the package was built without."""
    return StudyStore(FOLDER).studies()
