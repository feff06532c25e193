"""Composite models: description, training and saving of their members."""

import dataclasses
import json

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.models import Ensemble, EnsembleConfig, load_model
from tfrec_meta.models.base.contract import WarmStartError


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=40, items=20, interactions=400, seed=3)


def test_a_member_equals_itself_after_json():
    member = tm.Member("two_tower", {"hidden": (32, 16)}, {"epochs": 2})
    assert tm.Member.of(json.loads(json.dumps(dataclasses.asdict(member)))) == member


def test_a_name_gives_a_member_with_the_defaults_of_the_family():
    assert tm.Member.of("ials") == tm.Member("ials", {}, {})


@pytest.mark.parametrize("fields", [{"l2": object()}, 3, {"l2": float}])
def test_a_member_refuses_values_that_are_not_plain(fields):
    with pytest.raises(ValueError, match=r"`model`=.*plain values"):
        tm.Member("ease", fields)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (tm.Member("oracle_bones"), "oracle_bones"),
        (tm.Member("ease", {"l3": 1.0}), "EASEConfig has no l3"),
        (tm.Member("ease", {"l2": -1.0}), "`l2`=-1.0"),
        (tm.Member("ease", training={"epoch": 1}), "TrainingConfig has no epoch"),
    ],
)
def test_a_strategy_refuses_an_invalid_member(member, message):
    with pytest.raises(ValueError, match=message):
        tm.Strategy("ensemble", EnsembleConfig(members=(member, "ials")))


def test_a_strategy_with_members_round_trips_through_json():
    ranker = tm.Member("two_tower", {"hidden": [8]}, {"epochs": 2})
    inner = dataclasses.asdict(EnsembleConfig(members=("ease", ranker)))
    strategy = tm.Strategy("two_stage", tm.TwoStageConfig(tm.Member("ensemble", inner), ranker))
    assert tm.Strategy.from_dict(json.loads(json.dumps(strategy.as_dict()))) == strategy


def test_members_have_the_recipe_of_the_whole_except_for_their_own_fields():
    members = (tm.Member("two_tower", training={"epochs": 2}), tm.Member("two_tower"))
    recipe = tm.TrainingConfig(epochs=5, seed=9)
    first, second = tm.Strategy("ensemble", EnsembleConfig(members), recipe).members()
    assert first.training == dataclasses.replace(recipe, epochs=2)
    assert second.training == recipe


def test_a_member_equals_the_same_model_trained_alone(data):
    ensemble = tm.train(data, tm.Strategy("ensemble", EnsembleConfig(("ials", "ease"))))
    alone = tm.train(data, "ials")
    queries = alone.spec.encode_queries(["u1"], np.array([["i1", "i2"]], object))
    np.testing.assert_array_equal(ensemble.members[0].score(queries), alone.score(queries))


def test_members_are_saved_as_models_inside_the_folder(data, tmp_path):
    inner = dataclasses.asdict(EnsembleConfig(("ials", "popularity")))
    config = tm.TwoStageConfig(tm.Member("ensemble", inner), "ease", candidates=5)
    model = tm.train(data, tm.Strategy("two_stage", config))
    tm.save(model, tmp_path / "whole")
    queries = model.spec.encode_queries(["u1", "?"], np.array([["i1", "i2"], ["", ""]], object))
    loaded = load_model(tmp_path / "whole")
    np.testing.assert_allclose(loaded.score(queries), model.score(queries), rtol=1e-6)
    innermost = load_model(tmp_path / "whole" / "members" / "0" / "members" / "0")
    assert innermost.family == "ials"
    (tmp_path / "whole" / "members" / "1" / "weights.npz").unlink()
    with pytest.raises(ValueError, match=r"members/1/weights.npz is damaged: it is missing"):
        load_model(tmp_path / "whole")


def test_unite_refuses_other_members_and_other_features(data):
    spec = tm.FeatureSpec().fit(data)
    model = Ensemble(EnsembleConfig(("ials", "ease")), spec)
    ials, ease = (tm.train(data, name, features=spec) for name in ("ials", "ease"))
    with pytest.raises(ValueError, match="no members yet"):
        model.fit(data)
    with pytest.raises(ValueError, match=r"\['ease', 'ials'\], but the config names"):
        model.unite([ease, ials])
    stranger = tm.train(data, "ease", features=tm.FeatureSpec(history_length=3).fit(data))
    with pytest.raises(ValueError, match="'ease' has a FeatureSpec of its own"):
        model.unite([ials, stranger])


def test_a_warm_start_is_refused_before_anything_is_trained(data):
    earlier = tm.train(data, tm.Strategy("ensemble", EnsembleConfig(("popularity",))))
    with pytest.raises(WarmStartError, match="trained from scratch"):
        tm.train(data, tm.Strategy("ensemble"), warm_start=earlier)


@pytest.mark.slow
def test_the_training_of_a_killed_member_resumes_from_its_own_folder(data, tmp_path):
    recipe = tm.TrainingConfig(epochs=1, batch_size=64)
    strategy = tm.Strategy("ensemble", EnsembleConfig(("two_tower", "ease")), recipe)
    first = tm.train(data, strategy, folder=tmp_path, progress=False)
    lines = (tmp_path / "members" / "0" / "history.jsonl").read_text().splitlines()
    again = tm.train(data, strategy, folder=tmp_path, progress=False)
    queries = first.spec.encode_queries(["u1"], np.array([["i1"]], object))
    np.testing.assert_array_equal(first.score(queries), again.score(queries))
    assert len(lines) == 1
    # The epoch was not trained again: it has the seconds of the first run.
    assert again.members[0].curve == (json.loads(lines[0]),)
