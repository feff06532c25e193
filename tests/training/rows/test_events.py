"""Training rows of single events: histories, order, dropout, augmentation and weights."""

import numpy as np
import pytest

from tests.training.small_run import SPEC, SPLIT
from tfrec_meta.data import Interactions, histories
from tfrec_meta.features import Category, FeatureSpec
from tfrec_meta.training.rows.base import RowOptions
from tfrec_meta.training.rows.events import EventRows


def events_of(data=SPLIT.train, spec=SPEC, **options):
    recipe = {"epochs": 3, "batch_size": 64, "history_length": 8, "user_dropout": 0.1}
    return EventRows.from_interactions(
        data, spec, RowOptions(**{**recipe, "user_balance": 0.5, **options})
    )


def batches_of(events, epoch=0):
    return [
        {name: value.numpy() for name, value in batch.items()} for batch in events.batches(epoch)
    ]


def row_events(data):
    """Gives each event an item of its own, so that item rows in batches identify events."""
    n = len(data)
    ids = np.array([f"{row:04d}" for row in range(n)], object)
    marked = Interactions.from_arrays(
        data.events["user_id"], ids, time=None if data.times is None else data.times
    )
    return marked, FeatureSpec(history_length=12).fit(marked)


def test_earlier_histories_equal_those_of_the_data_package():
    marked, spec = row_events(SPLIT.train)
    events = events_of(marked, spec, user_dropout=0.0)
    row_of_item = spec.items.decode(np.arange(len(spec.items)))[1:].astype(int)
    past = histories(marked)
    seen = 0
    for batch in batches_of(events):
        rows = row_of_item[batch["item_id"] - 1]
        window = past.window(rows, 8)
        given = np.where(batch["history"] > 0, row_of_item[batch["history"] - 1], -1)
        np.testing.assert_array_equal(given, window)
        times = marked.times
        assert (times[given] < times[rows][:, None])[given >= 0].all()
        seen += (given >= 0).sum()
    assert seen > 1000


def test_events_of_the_same_second_are_not_in_each_others_history():
    data = Interactions.from_arrays(["u"] * 4, ["a", "b", "c", "d"], time=[1, 1, 2, 2])
    spec = FeatureSpec(history_length=4).fit(data)
    (batch,) = batches_of(events_of(data, spec, epochs=1, batch_size=4))
    items = spec.items.decode(batch["item_id"])
    given = dict(zip(items, spec.items.decode(batch["history"]).tolist(), strict=True))
    assert given == {
        "a": [""] * 4,
        "b": [""] * 4,
        "c": ["a", "b", "", ""],
        "d": ["a", "b", "", ""],
    }


def test_leave_one_out_samples_other_events_without_replacement():
    marked, spec = row_events(SPLIT.train)
    events = events_of(marked, spec, history="leave_one_out", user_dropout=0.0)
    user_of_item = np.zeros(len(spec.items), int)
    user_of_item[spec.items.encode(marked.events["item_id"])] = marked.user_codes + 1
    counts = np.bincount(marked.user_codes)
    drawn = {}
    for batch in batches_of(events):
        for item, history in zip(batch["item_id"], batch["history"], strict=True):
            others = history[history > 0]
            assert item not in others
            assert len(set(others)) == len(others)
            assert (user_of_item[others] == user_of_item[item]).all()
            assert len(others) == min(8, counts[user_of_item[item] - 1] - 1)
            drawn.setdefault(item, []).append(frozenset(others))
    again = [sets for sets in drawn.values() if len(sets) > 1 and len(sets[0]) == 8]
    assert again
    # Each epoch draws a new sample, unless the user has hardly more events than it holds.
    assert np.mean([len(set(sets)) > 1 for sets in again]) > 0.8


def test_leave_one_out_never_shows_the_target_item():
    data = Interactions.from_arrays(["u"] * 4, ["a", "a", "b", "c"])
    spec = FeatureSpec(history_length=4).fit(data)
    for batch in batches_of(events_of(data, spec, history="leave_one_out", batch_size=4)):
        assert not (batch["history"] == batch["item_id"][:, None]).any()


def test_a_user_with_one_event_has_no_history():
    data = Interactions.from_arrays(["u", "v"], ["a", "b"])
    spec = FeatureSpec(history_length=4).fit(data)
    for kind in ("earlier", "leave_one_out"):
        (batch,) = batches_of(events_of(data, spec, epochs=1, history=kind, batch_size=2))
        assert not batch["history"].any()


@pytest.mark.parametrize("kind", ["earlier", "leave_one_out"])
def test_batches_depend_on_the_seed_and_start_at_any_epoch(kind):
    options = {"history": kind, "history_dropout": 0.3, "user_dropout": 0.3}
    events = events_of(**options)
    all_epochs = batches_of(events)
    assert len(all_epochs) == 3 * events.steps
    for one, other in (
        (all_epochs, batches_of(events_of(**options))),
        (all_epochs[2 * events.steps :], batches_of(events, epoch=2)),
    ):
        assert len(one) == len(other)
        for batch, same in zip(one, other, strict=True):
            for name, value in batch.items():
                np.testing.assert_array_equal(value, same[name], err_msg=name)
    another = batches_of(events_of(seed=43, **options))
    assert not np.array_equal(another[0]["item_id"], all_epochs[0]["item_id"])


def test_an_epoch_has_each_event_at_most_once_and_its_own_order():
    marked, spec = row_events(SPLIT.train)
    events = events_of(marked, spec)
    items = np.stack([batch["item_id"] for batch in batches_of(events)]).reshape(3, -1)
    assert items.shape[1] == len(marked) // 64 * 64
    for epoch in items:
        assert len(set(epoch)) == len(epoch)
    assert not np.array_equal(items[0], items[1])
    assert set(items[0]) != set(items[1])  # each epoch drops different rows


def test_dropout_hides_about_its_share():
    batches = batches_of(events_of(user_dropout=0.4, history_dropout=0.25))
    plain = batches_of(events_of(user_dropout=0.0, history_dropout=0.0))
    users = np.concatenate([batch["user_id"] for batch in batches])
    assert 0.35 < (users == 0).mean() < 0.45
    kept = sum((batch["history"] > 0).sum() for batch in batches)
    assert 0.73 < kept / sum((batch["history"] > 0).sum() for batch in plain) < 0.77
    assert all((batch["user_id"] > 0).all() for batch in plain)


def test_dropout_is_independent_between_steps():
    events = events_of(user_dropout=0.5, history_dropout=0.5, history="leave_one_out")
    batches = batches_of(events)
    hidden = [batch["user_id"] == 0 for batch in batches]
    dropped = [(batch["history"] == 0).ravel()[:64] for batch in batches]
    agree = [np.mean(a == b) for a, b in zip(hidden[:-1], dropped[1:], strict=True)]
    assert 0.4 < np.mean(agree) < 0.6


def test_a_crop_keeps_a_run_of_the_history():
    marked, spec = row_events(SPLIT.train)
    original = batches_of(events_of(marked, spec))
    cropped = batches_of(events_of(marked, spec, history_crop=1.0))
    lengths = []
    for one, other in zip(original, cropped, strict=True):
        for before, after in zip(one["history"], other["history"], strict=True):
            kept = np.flatnonzero(after)
            np.testing.assert_array_equal(after[kept], before[kept])
            assert len(kept) == 0 or len(kept) == kept[-1] - kept[0] + 1
            assert (len(kept) > 0) == (before > 0).any()
            lengths.append((len(kept), (before > 0).sum()))
    short, full = np.array(lengths).T
    assert (short < full).mean() > 0.4
    assert (short == full).any()


def test_a_crop_of_a_long_history_keeps_visible_items():
    data = Interactions.from_arrays(["u"] * 200, [f"i{n}" for n in range(200)], time=range(200))
    spec = FeatureSpec(history_length=8).fit(data)
    events = events_of(data, spec, history="leave_one_out", history_crop=1.0, batch_size=200)
    for batch in batches_of(events):
        assert (batch["history"] > 0).any(axis=1).all()


def test_reordering_shuffles_a_run_and_keeps_all_items():
    marked, spec = row_events(SPLIT.train)
    original = batches_of(events_of(marked, spec))
    shuffled = batches_of(events_of(marked, spec, history_reorder=0.5))
    changed, rows = 0, 0
    for one, other in zip(original, shuffled, strict=True):
        rows += len(one["history"])
        np.testing.assert_array_equal(np.sort(other["history"]), np.sort(one["history"]))
        np.testing.assert_array_equal(other["history"] > 0, one["history"] > 0)
        changed += (one["history"] != other["history"]).any(axis=1).sum()
    assert 0.1 * rows < changed < 0.5 * rows


def test_user_balance_equals_weights_worked_by_hand():
    data = Interactions.from_arrays(list("uuuuv"), list("abcda"))
    spec = FeatureSpec().fit(data)
    # Raw weights are 4 ** -0.5 and 1, whose mean over the five events is 0.6.
    weights = events_of(data, spec, user_balance=0.5).weight.numpy()
    np.testing.assert_allclose(weights, np.array([0.5, 0.5, 0.5, 0.5, 1.0]) / 0.6, rtol=1e-6)
    assert events_of(data, spec, user_balance=0.0).weight.numpy().tolist() == [1.0] * 5
    full = events_of(data, spec, user_balance=1.0).weight.numpy()
    assert full[:4].sum() == pytest.approx(full[4])


def test_context_features_stay_with_their_event():
    data = Interactions.from_arrays(
        list("uuvv"), list("abab"), further={"device": ["web", "tv", "tv", "web"]}
    )
    spec = FeatureSpec(context=(Category("device"),), history_length=2).fit(data)
    device = {("u", "a"): "web", ("u", "b"): "tv", ("v", "a"): "tv", ("v", "b"): "web"}
    (batch,) = batches_of(events_of(data, spec, epochs=1, batch_size=4, user_dropout=0.0))
    users, items = spec.users.decode(batch["user_id"]), spec.items.decode(batch["item_id"])
    for user, item, row in zip(users, items, batch["device"][:, 0], strict=True):
        assert spec.vocabularies["context.device"].decode(row) == device[user, item]


def test_drops_unknown_items_and_keeps_unknown_users_as_row_0():
    data = Interactions.from_arrays(list("uvw"), list("abz"))
    spec = FeatureSpec(history_length=2).fit(Interactions.from_arrays(["u"], ["a"]))
    spec = spec.fit(Interactions.from_arrays(["u"], ["b"]))
    (batch,) = batches_of(events_of(data, spec, epochs=1, batch_size=512, user_dropout=0.0))
    assert sorted(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True)) == [
        (0, 2),
        (1, 1),
    ]
    with pytest.raises(ValueError, match="No training event has an item of the FeatureSpec"):
        events_of(Interactions.from_arrays(["u"], ["z"]), spec)
