"""The strategy space over families, its fixed values, and their meaning."""

import pytest

import tfrec_meta as tm
from tfrec_meta import tuning
from tfrec_meta.models import FAMILIES
from tfrec_meta.tuning import StrategySpace

ALL = tuple(FAMILIES)


def names(space):
    return [parameter.name for parameter in space.hyperparameters().space]


def test_public_names_exist_and_unknown_names_are_refused():
    assert all(hasattr(tuning, name) for name in tuning.__all__)
    with pytest.raises(AttributeError, match=r"no public name 'Tuner'; it has .*StrategySpace"):
        _ = tuning.Tuner


def test_default_values_give_the_default_strategy():
    space = StrategySpace(ALL)
    record = space.strategy_record(space.hyperparameters().values)
    assert tm.Strategy.from_dict(record) == tm.Strategy()
    for family in ALL:
        record = space.strategy_record({"family": family})
        assert tm.Strategy.from_dict(record) == tm.Strategy(family)


def test_the_first_family_is_the_default():
    assert StrategySpace(("ials", "ease")).strategy_record({})["family"] == "ials"


def test_only_hyperparameters_of_the_chosen_family_are_active():
    space = StrategySpace(("two_tower", "ials"))
    hp = space.hyperparameters()
    assert hp.values["two_tower/embedding_dim"] == 64
    assert not [name for name in hp.values if name.startswith("ials/")]
    assert "two_tower/encoder_heads" not in hp.values
    assert "two_tower/encoder_heads" in names(space)


def test_names_in_the_space_are_distinct():
    assert len(set(names(StrategySpace(ALL)))) == len(names(StrategySpace(ALL)))


@pytest.mark.parametrize("seed", range(10))
def test_random_values_give_valid_strategies(seed):
    space = StrategySpace(ALL)
    hp = space.hyperparameters()
    values = {p.name: p.random_sample(seed + i) for i, p in enumerate(hp.space)}
    tm.Strategy.from_dict(space.strategy_record(values))


def test_values_become_parts_of_a_strategy():
    record = StrategySpace().strategy_record(
        {
            "two_tower/embedding_dim": 16,
            "two_tower/encoder": "gru",
            "two_tower/training/learning_rate": 0.01,
            "tuner/epochs": 3,  # added by Hyperband
        }
    )
    assert record["family"] == "two_tower"
    assert record["model"]["embedding_dim"] == 16
    assert record["model"]["encoder_layers"] == 2
    assert "encoder_heads" not in record["model"]
    assert record["training"]["learning_rate"] == 0.01
    assert record["training"]["rows"] == "windows"
    assert "epochs" not in record["training"]  # the budget is not part of a strategy


def test_fixed_values_are_not_searched_and_activate_their_children():
    fixed = {"two_tower/encoder": "gru", "two_tower/training/learning_rate": 0.123}
    space = StrategySpace(fixed=fixed)
    kinds = {p.name: type(p).__name__ for p in space.hyperparameters().space}
    assert kinds["two_tower/encoder"] == kinds["two_tower/training/learning_rate"] == "Fixed"
    assert kinds["two_tower/temperature"] == "Float"
    values = space.hyperparameters().values
    assert values["two_tower/encoder"] == "gru"
    assert values["two_tower/encoder_layers"] == 2
    record = space.strategy_record(values)
    assert record["training"]["learning_rate"] == 0.123  # outside the searched range
    assert record["model"]["encoder"] == "gru"
    assert space.strategy_record({}) == record


def test_values_mean_the_same_without_the_fixed_values():
    space = StrategySpace(fixed={"two_tower/training/batch_size": 100})
    values = space.hyperparameters().values
    assert StrategySpace().strategy_record(values) == space.strategy_record(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ()}, "is empty"),
        ({"families": ("oracle_bones",)}, "oracle_bones.*two_tower"),
        ({"fixed": {"embedding_dim": 8}}, "embedding_dim.*two_tower/embedding_dim"),
        ({"fixed": {"family": "ease"}}, r"`fixed` has family='ease'; use one of \('two_tower',\)"),
        ({"fixed": {"two_tower/embedding_dim": 0}}, "`fixed`.*`embedding_dim`=0"),
        ({"fixed": {"two_tower/training/user_dropout": 2}}, "`fixed`.*`user_dropout`=2"),
        ({"fixed": {"two_tower/temperature": "hot"}}, "`fixed`.*hot"),
    ],
)
def test_an_invalid_space_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        StrategySpace(**options)


def test_an_unknown_hyperparameter_is_refused_by_name():
    with pytest.raises(ValueError, match=r"`values` has \['two_tower/colour'\]; use any of "):
        StrategySpace().strategy_record({"two_tower/colour": "red"})


def narrow(hp):
    """A user's own space of iALS."""
    return {"model": {"embedding_dim": hp.Choice("size", [4, 8]), "l2": 3.0}}


def test_a_user_function_declares_a_family():
    space = StrategySpace(("ials", "ease"), {"ials/size": 8}, declare={"ials": narrow})
    assert [name for name in names(space) if name.startswith("ials/")] == ["ials/size"]
    record = space.strategy_record({})
    assert record == {"family": "ials", "model": {"embedding_dim": 8, "l2": 3.0}, "training": {}}
    assert space.strategy_record({"family": "ease"})["family"] == "ease"
    assert space.version != StrategySpace(("ials",)).version == tuning.SPACE_VERSION


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        ({"ease": narrow}, r"`declare` has \['ease'\]; use any of `families`"),
        ({"ials": lambda hp: None}, r"The space of 'ials' returned None\. Return parts"),
        ({"ials": lambda hp: {"modell": {}}}, r"The space of 'ials' returned \{'modell'"),
        ({"ials": lambda hp: {"model": {"size": 4}}}, r"the space of 'ials': .*size"),
    ],
)
def test_a_function_that_returns_no_strategy_is_refused(declare, message):
    with pytest.raises(ValueError, match=message):
        StrategySpace(("ials",), declare=declare)


def test_a_teacher_is_searched_only_where_the_model_can_use_one():
    space = StrategySpace()
    taught = {
        "two_tower/loss": "softmax",
        "two_tower/negatives": "full",
        "two_tower/teacher": "ease",
    }
    assert space.strategy_record(taught)["teacher"] == "ease"
    assert space.strategy_record({**taught, "two_tower/negatives": "mixed"})["teacher"] is None
    assert space.strategy_record({**taught, "two_tower/loss": "bpr"})["teacher"] is None
    assert space.strategy_record({})["teacher"] is None
