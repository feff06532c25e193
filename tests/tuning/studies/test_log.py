"""Records of a search, and that each is written to the store once."""

import json

import pytest

from tests.tuning.store_samples import SPACE, study, trial
from tfrec_meta.tuning.studies.description import StudyDescription
from tfrec_meta.tuning.studies.log import HEADER, StudyLog, study_header, trial_record
from tfrec_meta.tuning.studies.records import record_problem
from tfrec_meta.tuning.studies.store import StudyStore

SEARCH = {
    "space_version": 1,
    "oracle": "random",
    "epochs": 8,
    "seed": 3,
}
ENDED = {
    "trial_id": "0",
    "val_ndcg@10": 0.25,
    "status": "completed",
    "error": None,
    "values": {"family": "ials", "ials/l2": 2.5, "tuner/epochs": 8},
    "strategy": {"family": "ials", "model": {"l2": 2.5}},
    "reports": [],
    "epochs": 8,
    "seconds": 1.5,
    "seed": 3,
    "ended": "2026-01-31T12:01:00+00:00",
    "suggested_by": "prior",
    "expected": None,
}


def test_a_header_is_valid_and_keeps_its_id_and_date_in_its_folder(tmp_path):
    header = study_header(tmp_path, SPACE, **SEARCH)
    assert record_problem(header) is None
    assert (header["objective"], header["direction"]) == ("val_ndcg@10", "max")
    assert header["protocol"] == "given"
    assert study_header(tmp_path, SPACE, **SEARCH)["study_id"] != header["study_id"]
    (tmp_path / HEADER).write_text(json.dumps({**header, "created": "2026-01-31T12:00:00+00:00"}))
    description = StudyDescription(protocol="time", profile={"log_users": 1.5})
    again = study_header(tmp_path, SPACE, description, **SEARCH)
    assert again["study_id"] == header["study_id"]
    assert again["created"] == "2026-01-31T12:00:00+00:00"
    assert again["protocol"] == "time"  # all other fields are new


@pytest.mark.parametrize(
    ("change", "value", "budget"),
    [
        ({}, 0.25, 8),  # a closed-form model counts as a full trial
        ({"reports": [0.1, 0.2]}, 0.25, 2),
        ({"status": "stopped", "reports": [0.1]}, 0.25, 1),
        ({"status": "failed", "error": "no", "val_ndcg@10": 0.0}, None, 0),
        ({"status": "timed_out", "error": "late", "reports": [0.1]}, None, 1),
    ],
)
def test_a_trial_is_recorded_with_its_value_and_budget(change, value, budget):
    record = trial_record(study(), {**ENDED, **change})
    assert record_problem(record) is None
    assert (record["value"], record["budget"]) == (value, budget)
    assert record["values"] == {"family": "ials", "ials/l2": 2.5}
    assert record["study_id"] == "one"
    assert record["suggested_by"] == "prior"


def test_a_prediction_is_recorded_if_it_is_finite():
    finite = {"mean": 0.2, "std": 0.1}
    assert trial_record(study(), {**ENDED, "expected": finite})["expected"] == finite
    invalid = {"mean": float("nan"), "std": 0.1}
    assert trial_record(study(), {**ENDED, "expected": invalid})["expected"] is None


def test_a_trial_is_recorded_with_its_complete_strategy():
    record = trial_record(study(), ENDED, lambda parts: {**parts, "history_length": 200})
    assert record["strategy"] == {**ENDED["strategy"], "history_length": 200}


def test_a_study_is_written_once_and_again_if_its_header_changed(tmp_path):
    store = StudyStore(tmp_path)

    def lines():
        return store.path.read_text().splitlines()

    log = StudyLog(store, study())
    log.begin([trial("0")])
    log.add(trial("0"))
    log.add(trial("1"))
    assert len(lines()) == 3
    again = StudyLog(store, study())
    again.begin([trial("0"), trial("1")])
    again.add(trial("1"))
    assert len(lines()) == 3
    StudyLog(store, study(protocol="time")).begin([trial("0"), trial("1"), trial("2")])
    (found,) = store.studies()
    assert found.protocol == "time"
    assert [one["trial_id"] for one in found.trials] == ["0", "1", "2"]
    assert len(lines()) == 5


def test_a_failing_store_is_logged_once_and_not_used_again(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    log = StudyLog(StudyStore(tmp_path / "file"), study())
    log.begin([])
    log.add(trial("0"))
    assert caplog.text.count("cannot be written") == 1
    StudyLog(None, study()).begin([trial("0")])  # without a store nothing is written
