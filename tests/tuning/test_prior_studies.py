"""Prior studies: what is loaded, and how it is summarised."""

import types

import pytest

from tests.tuning.store_samples import SPACE, study, trial
from tfrec_meta.tuning import StrategySpace, StudyStore, prior_studies
from tfrec_meta.tuning.prior_studies import PriorStudies, load_prior_studies


@pytest.fixture(autouse=True)
def no_shipped_studies(monkeypatch):
    monkeypatch.setattr(prior_studies.shipped, "shipped_studies", list)


def load(store):
    space = StrategySpace(("ials", "ease")).hyperparameters()
    return load_prior_studies(study("new", space=SPACE), space, store, None)


def test_only_comparable_studies_are_counted(tmp_path):
    store = StudyStore(tmp_path)
    store.append_study(study("one"), [trial("0"), trial("1")])
    store.append_study(study("other", objective="val_auc"), [trial("0", "other")])
    found = load(store)
    assert (found.surrogate, found.studies, found.trials) == (None, 1, 2)
    assert str(found) == "1 prior study with 2 trials; too few or too inconsistent to learn from."


def test_a_store_that_cannot_be_read_is_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "studies.jsonl").mkdir()
    found = load(StudyStore(tmp_path))
    assert str(found) == "No comparable prior studies; the search starts from its space alone."
    assert "cannot be read" in caplog.text


def test_without_a_store_only_shipped_studies_are_loaded():
    assert load(None).studies == 0


def test_the_summary_names_the_number_of_used_studies():
    surrogate = types.SimpleNamespace(studies=("a", "b"))
    assert str(PriorStudies(surrogate, 3, 1)) == (
        "3 prior studies with 1 trial; the search starts from the best points of 2 of them."
    )
