"""Verdicts as values and as records."""

import json
import subprocess
import sys

import pytest

from tests.pipeline import run_page_samples
from tfrec_meta.pipeline.gates.verdict import (
    Check,
    Outcome,
    Reference,
    SliceName,
    Verdict,
    shown_metric,
    shown_slice,
)

CHECK = Check(
    slice=SliceName.ALL_USERS,
    metric="ndcg@10",
    against=Reference.POPULARITY,
    users=943,
    model=0.1312,
    other=0.1,
    difference=0.0312,
    low=0.0121,
    high=0.0502,
    confidence=0.95,
    outcome=Outcome.PASSED,
    words="NDCG@10 is 0.0312 above popularity's",
)
VERDICT = Verdict(True, "Blessed.", (CHECK,), ("A note.",))


def test_a_record_gives_the_verdict_back():
    record = json.loads(json.dumps(VERDICT.as_dict()))
    assert record["checks"][0]["slice"] == "all_users"
    assert record["checks"][0]["against"] == "popularity"
    assert Verdict.from_dict(record) == VERDICT


def test_reads_the_file_of_the_ranking_gate():
    found = Verdict.from_dict(run_page_samples.verdict(blessed=False))
    assert [check.outcome for check in found.checks] == ["passed", "failed", "inconclusive"]
    assert found.checks[2].model is None


def test_checks_and_notes_may_be_missing():
    assert Verdict.from_dict({"blessed": False, "words": "No."}) == Verdict(False, "No.")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"blessed": "yes"}, "`blessed`='yes'; use true or false"),
        ({"words": None}, "`words`=None; use a string"),
        ({"checks": {"slice": "a"}}, r"`checks`=\{'slice': 'a'\}; use a list of mappings"),
        ({"checks": [1]}, r"`checks\[0\]`=1; use a mapping"),
        ({"notes": "a"}, "`notes`='a'; use a list of strings"),
    ],
)
def test_a_damaged_record_names_the_value(changes, message):
    with pytest.raises(ValueError, match=f"The verdict is damaged: {message}"):
        Verdict.from_dict(VERDICT.as_dict() | changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"users": "many"}, r"`checks\[0\]\.users`='many'; use a whole number"),
        ({"outcome": "lost"}, r"In `checks\[0\]`: 'lost' is not a valid Outcome"),
        ({"against": "all"}, r"In `checks\[0\]`: 'all' is not a valid Reference"),
    ],
)
def test_a_damaged_check_names_its_value(changes, message):
    record = VERDICT.as_dict()
    record["checks"] = [record["checks"][0] | changes]
    with pytest.raises(ValueError, match=message):
        Verdict.from_dict(record)


def test_a_record_without_its_words_is_damaged():
    with pytest.raises(ValueError, match="`words` must be set"):
        Verdict.from_dict({"blessed": True})


def test_slices_for_people():
    assert shown_slice("long_tail_items") == SliceName.LONG_TAIL_ITEMS.label == "long-tail items"
    assert shown_slice("taste=all_users") == "taste=all_users"


def test_metrics_for_people():
    assert [shown_metric(name) for name in ("ndcg@10", "auc")] == ["NDCG@10", "AUC"]


def test_imports_no_tensorflow():
    code = "import sys, tfrec_meta.pipeline.gates.verdict; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
