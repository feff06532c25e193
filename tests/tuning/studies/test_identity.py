"""Study folders: what differs is named, and other formats are refused."""

import json

import keras_tuner
import pytest

from tfrec_meta.tuning.studies.identity import FOLDER_FORMAT, check_study_identity, space_difference


def space(**options):
    hp = keras_tuner.HyperParameters()
    hp.Choice("family", ["a", "b"])
    hp.Int("dim", options.get("low", 1), 8)
    if options.get("fixed"):
        hp.Fixed("rate", 0.5)
    else:
        hp.Float("rate", 0.1, 1.0, sampling="log")
    if options.get("more"):
        hp.Boolean("bias")
    return json.loads(json.dumps(hp.get_config()["space"]))


def test_a_new_folder_starts_a_study_and_the_same_study_continues(tmp_path):
    study = {"objective": "x", "space": space(), "data": ("a", 1)}
    check_study_identity(tmp_path / "new", study)
    check_study_identity(tmp_path / "new", study)
    check_study_identity(tmp_path / "new", study, create=False)


def test_a_worker_does_not_create_a_study(tmp_path):
    with pytest.raises(FileNotFoundError, match="see the same folder"):
        check_study_identity(tmp_path, {"objective": "x"}, create=False)
    assert not list(tmp_path.iterdir())


def test_another_objective_and_space_are_named_together(tmp_path):
    check_study_identity(tmp_path, {"objective": "x", "space": space()})
    with pytest.raises(
        ValueError, match=r"another objective \('x', now 'y'\), another space \(add"
    ):
        check_study_identity(tmp_path, {"objective": "y", "space": space(more=True)})


def test_changed_hyperparameters_are_named_with_their_ranges():
    assert space_difference(space(), space(more=True)) == "added: bias"
    assert space_difference(space(more=True), space()) == "removed: bias"
    assert space_difference(space(), space(low=2)) == (
        "changed: dim from Int(min_value=1) to Int(min_value=2)"
    )
    assert space_difference(space(), space(fixed=True)) == (
        "changed: rate from Float(default=0.1, min_value=0.1, max_value=1.0, sampling='log') "
        "to Fixed(value=0.5)"
    )
    assert space_difference(space(), space()[::-1]) == "in another order"


def test_a_changed_condition_is_shown():
    def conditional(family):
        hp = keras_tuner.HyperParameters()
        hp.Choice("family", ["a", "b"])
        with hp.conditional_scope("family", [family]):
            hp.Int("dim", 1, 8)
        return json.loads(json.dumps(hp.get_config()["space"]))

    difference = space_difference(conditional("a"), conditional("b"))
    assert difference.startswith("changed: dim from Int(conditions=")
    assert "'a'" in difference
    assert "'b'" in difference


def test_a_study_folder_of_version_0_1_is_refused_with_the_way_out(tmp_path):
    study = {"objective": "val_ndcg_at_10", "space": space()}
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(
        ValueError, match=r"tfrec-meta 0\.1 \(format 1\).*`tfrec-meta studies import"
    ):
        check_study_identity(tmp_path, {"objective": "val_ndcg@10", "space": space()})
    assert json.loads((tmp_path / "study.json").read_text()) == study


def test_a_study_folder_of_a_newer_version_is_refused(tmp_path):
    check_study_identity(tmp_path, {"objective": "x"})
    path = tmp_path / "study.json"
    assert json.loads(path.read_text())["format"] == FOLDER_FORMAT
    path.write_text(json.dumps({"format": FOLDER_FORMAT + 1, "objective": "x"}))
    with pytest.raises(ValueError, match=r"format 3.*Upgrade tfrec-meta"):
        check_study_identity(tmp_path, {"objective": "x"})
