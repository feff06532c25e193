"""Fitting: closed forms, streamed events, precision, compilation, and refused combinations."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from tests.training.small_run import (
    DATA,
    QUICK,
    SPEC,
    SPLIT,
    assert_same_weights,
    fitted,
)
from tfrec_meta.data import stream_interactions
from tfrec_meta.models import Popularity, PopularityConfig
from tfrec_meta.training import fit


def test_a_closed_form_has_an_empty_curve():
    assert fit(Popularity(PopularityConfig(), SPEC), SPLIT.train) == []


@pytest.mark.slow
def test_bfloat16_changes_the_loss_little_and_only_during_training():
    option = "auto_mixed_precision_onednn_bfloat16"
    (_, curve), (mixed, low) = (
        fitted(dataclasses.replace(QUICK, mixed_precision=on)) for on in (False, True)
    )
    assert not tf.config.optimizer.get_experimental_options().get(option, False)
    assert low[-1]["loss"] == pytest.approx(curve[-1]["loss"], rel=0.05)
    assert all(value.dtype != tf.bfloat16 for value in mixed.weights)


@pytest.mark.slow
@pytest.mark.timeout(900)  # compilation takes 30 s on two cores
def test_a_compiled_step_has_about_the_same_loss(uninterrupted):
    _, compiled = fitted(dataclasses.replace(QUICK, epochs=1, jit_compile=True))
    assert compiled[0]["loss"] == pytest.approx(uninterrupted[1][0]["loss"], rel=0.02)


def test_refuses_a_batch_of_one_window_without_negatives():
    config = dataclasses.replace(QUICK, rows="windows", batch_size=8)
    with pytest.raises(ValueError, match="`batch_size`=8 is one window"):
        fitted(config)


def test_refuses_more_batches_per_step_than_an_epoch_has():
    with pytest.raises(ValueError, match="`accumulation`=1000, but an epoch has fewer"):
        fitted(dataclasses.replace(QUICK, accumulation=1000))


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    pq.write_table(SPLIT.train.events, folder / "events.parquet")
    return stream_interactions(folder, part_events=200, items=DATA.items)


@pytest.mark.slow
def test_streamed_events_train_about_the_same_model_as_events_in_memory(
    streamed, uninterrupted, tmp_path
):
    model, curve = fitted(data=streamed, folder=tmp_path)
    in_memory, _ = uninterrupted
    for name, value in model.state().items():
        if name.endswith(("item_counts:0", "user_counts:0")):
            np.testing.assert_array_equal(value, in_memory[name], err_msg=name)
    assert [line["epoch"] for line in curve] == [1, 2, 3]
    assert curve[-1]["loss"] < curve[0]["loss"]
    # The same rows in another order have about the same loss.
    assert curve[-1]["loss"] == pytest.approx(uninterrupted[1][-1]["loss"], rel=0.1)
    again, same = fitted(data=streamed, folder=tmp_path)
    assert same == curve
    assert_same_weights(again.state(), model.state())


def test_a_closed_form_refuses_streamed_events(streamed):
    model = Popularity(PopularityConfig(), SPEC)
    with pytest.raises(TypeError, match="'popularity' is solved from all events together"):
        fit(model, streamed)
