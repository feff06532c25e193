"""Records of a store: comparable studies, and how invalid records are refused."""

import pytest

from tests.tuning.store_samples import study, trial
from tfrec_meta.tuning.studies.records import comparable
from tfrec_meta.tuning.studies.store import StudyStore


@pytest.fixture
def store(tmp_path) -> StudyStore:
    store = StudyStore(tmp_path / "store")
    store.append_study(study())
    return store


def ids(store: StudyStore) -> dict[str, list[str]]:
    """Study id -> ids of the trials, read by a new store object."""
    studies = StudyStore(store.folder).studies()
    return {one.study_id: [trial["trial_id"] for trial in one.trials] for one in studies}


def test_only_studies_with_the_same_fields_are_comparable(tmp_path):
    store = StudyStore(tmp_path)
    for name, change in (("a", {}), ("b", {"objective": "val_auc"}), ("c", {"protocol": "given"})):
        store.append_study(study(name, **change))
    assert [one.study_id for one in comparable(store.studies(), study("new"))] == ["a"]
    assert comparable(store.studies(), study("a")) == []


NAN = float("nan")


@pytest.mark.parametrize(
    "field, value",
    [
        ("study_id", ""),
        ("study_id", 3),
        ("schema", 0),
        ("schema", 3),
        ("space", {}),
        ("space", [{"class_name": "Float"}]),
        ("space", [{"class_name": "Float", "config": {"default": 1}}]),
        ("space_version", 1.0),
        ("objective", None),
        ("direction", "up"),
        ("protocol", ""),
        ("protocol", "leave last out"),
        ("protocol", ["time"]),
        ("budget_unit", 1),
        ("budget", True),
        ("budget", -1),
        ("oracle", None),
        ("seed", "42"),
        ("created", "yesterday"),
        ("created", "2026-01-31T12:00:00"),
        ("created", "2026-01-31T12:00:00+02:00"),
        ("created", 1738324800),
        ("source", ""),
        ("data", {"name": "toy"}),
        ("data", {"name": "toy", "fingerprint": None, "description": ""}),
        ("profile", {"log_users": NAN}),
        ("profile", {"log_users": "many"}),
        ("profile", [1.0]),
        ("text_embedding", [0.1, None]),
        ("text_embedding", [float("inf")]),
        ("kind", "trial"),
        ("kind", ["study"]),
        ("further", object()),
        ("further", [NAN]),
    ],
)
def test_an_invalid_header_is_refused_by_its_field(tmp_path, field, value):
    store = StudyStore(tmp_path)
    with pytest.raises(ValueError, match=rf"`{field}`|a trial without"):
        store.append_study(study(**{field: value}))
    assert not store.path.exists()


@pytest.mark.parametrize(
    "field, value",
    [
        ("study_id", None),
        ("trial_id", 0),
        ("values", []),
        ("values", {"ials/l2": [1]}),
        ("values", {"ials/l2": NAN}),
        ("values", {"ials/l2": None}),
        ("strategy", "ials"),
        ("strategy", {"l2": NAN}),
        ("value", "0.5"),
        ("value", NAN),
        ("value", -float("inf")),
        ("value", True),
        ("value", None),
        ("status", "done"),
        ("status", "failed"),
        ("error", 5),
        ("curve", None),
        ("curve", [0.1, NAN]),
        ("budget", 1.5),
        ("seconds", -0.1),
        ("seconds", None),
        ("seed", 1.5),
        ("ended", None),
        ("suggested_by", ""),
        ("expected", {"mean": 1.0}),
        ("expected", {"mean": 1.0, "std": -0.1}),
        ("expected", [1.0, 0.1]),
        ("kind", "study"),
        ("kind", "removed"),
    ],
)
def test_an_invalid_trial_is_refused_by_its_field(store, field, value):
    with pytest.raises(ValueError, match=rf"`{field}`|a study without|; use 'trial'"):
        store.append_trial(trial(**{field: value}))
    assert ids(store) == {"one": []}


@pytest.mark.parametrize("field", study().keys())
def test_a_missing_field_of_a_header_is_named(tmp_path, field):
    record = study()
    del record[field]
    with pytest.raises(ValueError, match=rf"without `{field}`|`kind`=None"):
        StudyStore(tmp_path).append_study(record)


@pytest.mark.parametrize("field", trial().keys())
def test_a_missing_field_of_a_trial_is_named(tmp_path, field):
    record = trial()
    del record[field]
    with pytest.raises(ValueError, match=rf"without `{field}`|`kind`=None"):
        StudyStore(tmp_path).append_trial(record)


def test_a_timed_out_trial_may_have_a_value(store):
    store.append_trial(trial("0", status="timed_out"))
    store.append_trial(trial("1", status="timed_out", value=None, error="after 60 s"))
    assert ids(store) == {"one": ["0", "1"]}
