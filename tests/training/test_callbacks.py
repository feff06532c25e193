"""The progress lines, and the caller's `on_epoch`."""

import dataclasses

import pytest

from tests.training.small_run import (
    QUICK,
    assert_same_weights,
    fitted,
    without_seconds,
)
from tfrec_meta.models import TwoTower


def test_prints_a_line_per_epoch_without_a_terminal(capsys):
    fitted(dataclasses.replace(QUICK, epochs=2), progress=True)
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    assert ", val_ndcg@10 0." in lines[1]


def test_on_epoch_gets_each_epoch_and_may_end_the_training_after_its_checkpoint(
    tmp_path, uninterrupted
):
    calls = []

    def on_epoch(model, line):
        calls.append((type(model), dict(line)))
        if len(calls) == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fitted(folder=tmp_path, on_epoch=on_epoch)
    model, curve = fitted(folder=tmp_path, on_epoch=on_epoch)  # only the last epoch
    state, expected = uninterrupted
    assert [line for _, line in calls] == curve
    assert without_seconds(curve) == without_seconds(expected)
    assert {kind for kind, _ in calls} == {TwoTower}
    assert_same_weights(model.state(), state)
