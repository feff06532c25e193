"""Strategies: reading them from plain values, and changing some of their fields."""

import json

import pytest

import tfrec_meta as tm
from tfrec_meta.models import EASEConfig


def test_survives_json():
    strategy = tm.Strategy(features=tm.FeatureSpec(item=(tm.Category("kind"),)))
    assert tm.Strategy.from_dict(json.loads(json.dumps(strategy.as_dict()))) == strategy


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"family": "oracle"}, "oracle"),
        ({"model": {"dimension": 8}}, "no dimension"),
        ({"model": {"embedding_dim": "64"}}, "`embedding_dim`='64'; use a whole number"),
        ({"training": {"epoch": 8}}, "no epoch"),
    ],
)
def test_from_dict_refuses_an_unknown_family_field_or_value_by_name(record, message):
    with pytest.raises(ValueError, match=message):
        tm.Strategy.from_dict(record)


def test_refuses_the_config_of_another_family_and_names_the_right_one():
    with pytest.raises(ValueError, match=r"`model` is a EASEConfig, .* takes a TwoTowerConfig"):
        tm.Strategy("two_tower", EASEConfig())


def test_refuses_a_teacher_that_is_not_a_closed_form():
    with pytest.raises(ValueError, match=r"`teacher`='two_tower'; use one of .*ease"):
        tm.Strategy("two_tower", teacher="two_tower")


def test_changes_keep_the_other_fields_of_the_same_family():
    strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=16, temperature=0.2))
    changed = strategy.with_changes({"model": {"embedding_dim": 8}, "training": {"epochs": 3}})
    assert (changed.model.embedding_dim, changed.model.temperature) == (8, 0.2)
    assert changed.training.epochs == 3


def test_changes_to_another_family_start_from_its_default_config():
    strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=16), history_length=7)
    changed = strategy.with_changes({"family": "ease", "model": {"l2": 3.0}})
    assert changed.model == EASEConfig(l2=3.0)
    assert changed.history_length == 7


def test_a_member_has_the_recipe_of_the_whole_model_except_for_its_own_fields():
    config = tm.EnsembleConfig(members=("ease", tm.Member("two_tower", training={"epochs": 2})))
    recipe = tm.TrainingConfig(epochs=5, batch_size=64)
    ease, tower = tm.Strategy("ensemble", config, recipe).members()
    assert (ease.family, tower.family) == ("ease", "two_tower")
    assert (tower.training.epochs, tower.training.batch_size) == (2, 64)
    assert tm.Strategy("two_tower").members() == ()
