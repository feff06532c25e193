"""Training rows of windows: which events predict which."""

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.training.rows.base import RowOptions
from tfrec_meta.training.rows.windows import WindowRows

PLAIN = RowOptions(epochs=3, batch_size=6, history_length=3, seed=1)


def events(**counts):
    """Returns shuffled events: so many per user, with items named after user and position."""
    rows = [
        (user, f"{user}{position}", position) for user, n in counts.items() for position in range(n)
    ]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    users, items, times = zip(*rows, strict=True)
    device = [item[-1] for item in items]
    return tm.Interactions.from_arrays(users, items, time=list(times), further={"device": device})


def windows_of(data, spec=None, **options):
    spec = spec or tm.FeatureSpec(history_length=3).fit(data)
    made = WindowRows.from_interactions(data, spec, RowOptions(**{**vars(PLAIN), **options}))
    batches = [{k: v.numpy() for k, v in batch.items()} for batch in made.batches(0)]
    return spec, made, batches


def decoded(spec, batches, name):
    return [spec.items.decode(row).tolist() for batch in batches for row in batch[name]]


def test_a_short_history_is_one_window_worked_by_hand():
    spec, made, batches = windows_of(events(a=3), epochs=1)
    assert made.steps == 1
    assert decoded(spec, batches, "history") == [["a0", "a1", ""]]
    assert decoded(spec, batches, "item_id") == [["a1", "a2", ""]]
    assert spec.users.decode(batches[0]["user_id"]).tolist() == ["a"]


def test_each_event_except_the_first_is_predicted_once_per_epoch_from_the_one_before():
    counts = {"a": 9, "b": 2, "c": 4, "d": 5, "e": 1}
    spec, made, batches = windows_of(events(**counts), batch_size=3)
    histories, targets = (decoded(spec, batches, name) for name in ("history", "item_id"))
    everything = sorted(f"{u}{position}" for u, n in counts.items() for position in range(1, n))
    for epoch in range(3):
        part = slice(epoch * made.steps, (epoch + 1) * made.steps)
        assert sorted(item for row in targets[part] for item in row if item) == everything
    for history, target in zip(histories, targets, strict=True):
        items = [item for item in target if item]
        assert target == items + [""] * (3 - len(items))
        before = [f"{item[0]}{int(item[1:]) - 1}" for item in items]
        assert history == before + [""] * (3 - len(items))


def test_borders_and_order_change_with_the_epoch_and_not_with_the_call():
    data = events(a=9, b=9, c=9)
    spec, made, batches = windows_of(data, epochs=4, batch_size=3)
    targets = decoded(spec, batches, "item_id")
    epochs = [targets[i * made.steps : (i + 1) * made.steps] for i in range(4)]
    assert len({str(sorted(epoch)) for epoch in epochs}) > 1
    assert len({str(epoch) for epoch in epochs}) == 4
    later = [{k: v.numpy() for k, v in batch.items()} for batch in made.batches(2)]
    assert decoded(spec, later, "item_id") == epochs[2] + epochs[3]


def test_dropout_hides_inputs_and_users_but_no_targets():
    data = events(**{f"u{i}": 4 for i in range(200)})
    _, _, batches = windows_of(
        data, batch_size=600, epochs=1, history_dropout=0.5, user_dropout=0.25
    )
    assert (batches[0]["history"] == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert (batches[0]["user_id"] == 0).mean() == pytest.approx(0.25, abs=0.1)
    assert (batches[0]["item_id"] > 0).all()


def test_events_of_active_users_can_weigh_less():
    _, _, batches = windows_of(events(a=4, b=1), batch_size=3, user_balance=0.5, epochs=1)
    # Four events of weight 1/2 and one of weight 1 have a mean of 0.6.
    np.testing.assert_allclose(batches[0]["sample_weight"], [[0.5 / 0.6] * 3], rtol=1e-6)


def test_context_belongs_to_the_predicted_event():
    data = events(a=3)
    spec = tm.FeatureSpec(context=(tm.Category("device"),), history_length=3).fit(data)
    _, _, batches = windows_of(data, spec, epochs=1)
    device = spec.vocabularies[spec.key(spec.context[0], "query")]
    assert device.decode(batches[0]["device"][0, :2, 0]).tolist() == ["1", "2"]


def test_drops_items_that_are_not_in_the_spec():
    data = events(a=4)
    spec = tm.FeatureSpec(history_length=3).fit(
        data.take(np.flatnonzero(np.array(data.events["item_id"].to_pylist()) != "a1"))
    )
    _, _, batches = windows_of(data, spec, epochs=1)
    assert decoded(spec, batches, "history") == [["a0", "a2", ""]]
    assert decoded(spec, batches, "item_id") == [["a2", "a3", ""]]


def test_refuses_data_in_which_all_users_have_one_event():
    with pytest.raises(ValueError, match="two events"):
        windows_of(events(a=1, b=1))


def test_the_digest_differs_between_data():
    digests = {windows_of(events(**counts))[1].digest for counts in ({"a": 3}, {"a": 4})}
    assert len(digests) == 2
    assert windows_of(events(a=3))[1].digest in digests


def test_a_crop_keeps_a_run_of_the_window():
    spec, _, batches = windows_of(events(a=4), history_crop=1.0, epochs=40)
    seen = set()
    for history, target in zip(
        decoded(spec, batches, "history"), decoded(spec, batches, "item_id"), strict=True
    ):
        n = len([item for item in target if item])
        assert n >= 1
        positions = [int(item[1:]) for item in history[:n]]
        assert positions == list(range(positions[0], positions[0] + n))
        assert target[:n] == [f"a{position + 1}" for position in positions]
        assert history[n:] == target[n:] == [""] * (3 - n)
        seen.add((positions[0], n))
    assert {(0, 3), (0, 1), (2, 1)} <= seen


def test_reordering_never_shows_a_target_in_advance():
    spec, _, batches = windows_of(events(a=4), history_reorder=1.0, epochs=40)
    orders = set()
    for history, target in zip(
        decoded(spec, batches, "history"), decoded(spec, batches, "item_id"), strict=True
    ):
        items_of_window = [history[0], *target]
        assert sorted(items_of_window) == ["a0", "a1", "a2", "a3"]
        assert history[1:] == target[:-1]
        orders.add(tuple(items_of_window))
    assert len(orders) > 5
