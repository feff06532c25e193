"""The training recipe refuses values out of range, and survives JSON."""

import dataclasses
import json

import pytest

from tfrec_meta.training import TrainingConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("epochs", value) for value in (0, -1, 2.5, None)],
        *[("batch_size", value) for value in (1, 0, "64")],
        ("history_length", 0),
        ("patience", -1),
        ("seed", -1),
        *[("learning_rate", value) for value in (0, -0.1, float("nan"), float("inf"))],
        *[("weight_decay", value) for value in (-0.1, float("nan"))],
        *[("user_balance", value) for value in (-0.5, float("nan"), float("inf"))],
        *[("history_dropout", value) for value in (-0.1, 1.0, float("nan"))],
        *[("user_dropout", value) for value in (-0.1, 1.0)],
        *[(name, -0.1) for name in ("l2", "adversarial_weight", "adversarial_size")],
        ("accumulation", 0),
        *[("average_decay", value) for value in (-0.1, 1.0)],
        *[(name, value) for name in ("history_crop", "history_reorder") for value in (-0.1, 1.1)],
        ("history", "later"),
        ("rows", "users"),
        ("optimizer", "sgd"),
    ],
)
def test_refuses_a_value_out_of_range_by_name(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`=.*; use "):
        TrainingConfig(**{name: value})


def test_refuses_leave_one_out_with_windows():
    with pytest.raises(ValueError, match="Use 'earlier' or 'auto'"):
        TrainingConfig(rows="windows", history="leave_one_out")


def test_refuses_averaged_weights_with_a_lazy_optimizer():
    with pytest.raises(ValueError, match=r"`average_decay`=0.9 .*`optimizer`='lazy_adam' .*Use 0"):
        TrainingConfig(optimizer="lazy_adam", average_decay=0.9)


def test_a_recipe_survives_json():
    config = TrainingConfig(epochs=5, history="earlier", user_balance=0.25)
    assert TrainingConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
