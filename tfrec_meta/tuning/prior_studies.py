"""Studies that come with the package, so that the first search has something to begin with."""

from __future__ import annotations

from tfrec_meta.tuning.study_store import StudyRecord


def shipped_studies() -> list[StudyRecord]:
    """None yet."""
    return []
