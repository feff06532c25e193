"""The studies that come with the package, so that even the first search has prior studies.

`benchmarks.record_studies` creates them from synthetic and public data.
"""

from __future__ import annotations

from pathlib import Path

from tfrec_meta.tuning.studies.records import StudyRecord
from tfrec_meta.tuning.studies.store import StudyStore

FOLDER = Path(__file__).parent / "shipped_studies"


def shipped_studies() -> list[StudyRecord]:
    """Returns the studies of the package; none if the package was built without them."""
    return StudyStore(FOLDER).studies()
