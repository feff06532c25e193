"""Artifacts as the page of a run reads them."""

from tfrec_meta.pipeline import artifacts
from tfrec_meta.pipeline.pages import artifact_files


def test_type_names_equal_those_of_the_artifacts():
    assert artifact_files.ACCEPTED == artifacts.AcceptedData.TYPE_NAME
    assert artifact_files.COMPARED == artifacts.SplitComparison.TYPE_NAME
    assert artifact_files.VERDICT == artifacts.BlessingReport.TYPE_NAME
