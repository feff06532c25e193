"""What tells two studies apart is named."""

import json

import keras_tuner
import pytest

from tfrec_meta.tuning.studies.identity import check_same_study, space_difference


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


def test_a_new_folder_begins_a_study_and_the_same_one_goes_on(tmp_path):
    study = {"objective": "x", "space": space(), "data": ("a", 1)}
    check_same_study(tmp_path / "new", study)
    check_same_study(tmp_path / "new", study)
    check_same_study(tmp_path / "new", study, begin=False)


def test_a_worker_begins_no_study(tmp_path):
    with pytest.raises(FileNotFoundError, match="see the same folder"):
        check_same_study(tmp_path, {"objective": "x"}, begin=False)
    assert not list(tmp_path.iterdir())


def test_another_objective_and_space_are_told_together(tmp_path):
    check_same_study(tmp_path, {"objective": "x", "space": space()})
    with pytest.raises(
        ValueError, match=r"another objective \('x', now 'y'\), another space \(add"
    ):
        check_same_study(tmp_path, {"objective": "y", "space": space(more=True)})


def test_hyperparameters_are_named_with_their_ranges():
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


def test_another_condition_is_told():
    def conditional(family):
        hp = keras_tuner.HyperParameters()
        hp.Choice("family", ["a", "b"])
        with hp.conditional_scope("family", [family]):
            hp.Int("dim", 1, 8)
        return json.loads(json.dumps(hp.get_config()["space"]))

    told = space_difference(conditional("a"), conditional("b"))
    assert told.startswith("changed: dim from Int(conditions=")
    assert "'a'" in told
    assert "'b'" in told
