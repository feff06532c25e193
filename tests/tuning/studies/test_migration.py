"""Records of version 0.1 are converted, or refused with the way out."""

import json

import pytest

from tests.tuning.store_samples import study, trial
from tfrec_meta.tuning.studies.data_profile import PROFILE_FIELDS
from tfrec_meta.tuning.studies.migration import migrated
from tfrec_meta.tuning.studies.store import StudyStore


def old(**fields):
    """A header as version 0.1 wrote it."""
    old_fields = {"schema": 1, "objective": "val_ndcg_at_10", "protocol": "random part"}
    return study(**{**old_fields, **fields})


def write(folder, *records):
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "studies.jsonl").write_text(lines)
    return StudyStore(folder)


@pytest.mark.parametrize(
    ("sentence", "protocol"),
    [
        ("random part", "random"),
        ("by time", "time"),
        ("leave last out", "leave-last-out"),
        ("cold users", "cold-users"),
        ("cold items", "cold-items"),
        ("domain genre 'Drama'", "domain"),
        ("given", "given"),
        ("unknown", "unknown"),
    ],
)
def test_headers_of_version_0_1_are_converted(sentence, protocol):
    assert migrated(old(protocol=sentence)) == study(protocol=protocol)


def test_profiles_of_version_0_1_get_the_present_names():
    profile = {"log_users": 4.5, "distinct_words_an_item": 1.0}
    found = migrated(old(profile=profile))["profile"]
    assert found == {"log_users": 4.5, "distinct_words_per_item": 1.0}
    assert set(found) <= set(PROFILE_FIELDS)
    assert migrated(old(profile=None))["profile"] is None


def test_other_objectives_and_records_stay_as_they_are():
    assert migrated(old(objective="val_rmse"))["objective"] == "val_rmse"
    assert migrated(trial()) == trial()
    assert migrated(study()) == study()
    assert migrated({"kind": "study", "schema": 1}) == {"kind": "study", "schema": 2}


def test_a_store_of_version_0_1_is_read_and_comparable(tmp_path):
    store = write(tmp_path, old(), trial())
    (found,) = store.studies()
    assert found.header() == study()
    assert found.trials == (trial(),)
    assert [one.study_id for one in store.comparable(study("new"))] == ["one"]


def test_a_header_of_version_0_1_may_be_appended(tmp_path):
    store = StudyStore(tmp_path)
    store.append_study(old(), [trial()])
    assert json.loads(store.path.read_text().splitlines()[0]) == study()


def test_an_unknown_protocol_of_version_0_1_is_left_out_with_a_warning(tmp_path, caplog):
    store = write(tmp_path, old(protocol="every second Tuesday"))
    assert store.studies() == []
    assert "`protocol`='every second Tuesday' of a study; use one of random, " in caplog.text


def test_compaction_keeps_lines_of_version_0_1(tmp_path):
    store = write(tmp_path, old(), trial(value=0.1), trial())
    assert store.compact() == 1
    (found,) = store.studies()
    assert found.header() == study()
