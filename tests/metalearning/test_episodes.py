"""Tasks and episodes, on a few events that are written down."""

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.metalearning.episodes import EpisodeConfig, Episodes
from tfrec_meta.metalearning.tasks import category_tasks, item_tasks, user_tasks, window_tasks


@pytest.fixture(scope="module")
def data():
    """Three users; u has item a twice; times are not in row order."""
    return tm.Interactions.from_arrays(
        ["u", "u", "u", "v", "v", "w", "u"],
        ["b", "a", "c", "a", "d", "d", "a"],
        time=[20, 10, 30, 15, 25, 5, 40],
        value=[1, 2, 3, 4, 5, 1, 2],
        items=pa.table(
            {"item_id": ["a", "b", "c", "d"], "genre": [["x", "y"], ["x"], None, ["y"]]}
        ),
    )


@pytest.fixture(scope="module")
def spec(data):
    return tm.FeatureSpec().fit(data)


def items_of(tasks, spec, task):
    rows = tasks.events[tasks.start[task] : tasks.start[task + 1]]
    return list(spec.items.decode(tasks.item[rows]))


def by_name(tasks, spec):
    return {name: items_of(tasks, spec, task) for task, name in enumerate(tasks.names)}


def test_user_tasks_are_ordered_by_time_with_each_item_once(data, spec):
    found = by_name(user_tasks(data, spec), spec)
    assert found == {"u": ["a", "b", "c"], "v": ["a", "d"], "w": ["d"]}


def test_labels_are_values_on_request(data, spec):
    tasks = user_tasks(data, spec, "value")
    events = tasks.events[tasks.start[0] : tasks.start[1]]
    assert list(tasks.label[events]) == [2.0, 1.0, 3.0]
    assert set(user_tasks(data, spec).label) == {1.0}


def test_unknown_label_is_refused(data, spec):
    with pytest.raises(ValueError, match="'chosen' or 'value'"):
        user_tasks(data, spec, "stars")


def test_item_tasks_have_the_items_users(data, spec):
    tasks = item_tasks(data, spec)
    (a,) = np.flatnonzero(tasks.names == "a")
    events = tasks.events[tasks.start[a] : tasks.start[a + 1]]
    assert list(spec.users.decode(tasks.user[events])) == ["u", "v"]


def test_item_with_two_genres_is_in_both_tasks(data, spec):
    found = by_name(category_tasks(data, spec, "genre"), spec)
    assert found == {"x": ["a", "a", "b", "a"], "y": ["d", "a", "a", "d", "a"]}


def test_unknown_attribute_is_refused(data, spec):
    with pytest.raises(ValueError, match="`attribute`='colour'"):
        category_tasks(data, spec, "colour")


def test_windows_of_time(data, spec):
    found = by_name(window_tasks(data, spec, 20), spec)
    assert found == {"0": ["d", "a", "a"], "20": ["b", "d", "c"], "40": ["a"]}
    with pytest.raises(ValueError, match="`seconds`=0"):
        window_tasks(data, spec, 0)
    with pytest.raises(ValueError, match="no times"):
        window_tasks(tm.Interactions.from_arrays(["u"], ["a"]), spec, 20)


def test_unknown_items_are_left_out(data):
    small = tm.FeatureSpec().fit(tm.Interactions.from_arrays(["u"], ["a"]))
    assert by_name(user_tasks(data, small), small) == {"u": ["a"], "v": ["a"]}


def test_test_tasks_share_no_event_with_training_tasks(data, spec):
    learned, judged = category_tasks(data, spec, "genre").leave_out("y")
    assert by_name(judged, spec) == {"y": ["d", "a", "a", "d", "a"]}
    assert by_name(learned, spec) == {"x": ["b"]}
    with pytest.raises(ValueError, match="`name`='z'"):
        category_tasks(data, spec, "genre").leave_out("z")


def test_split_depends_on_names_and_seed_only():
    made = tm.synthetic(users=40, items=20, interactions=400, seed=1)
    tasks = user_tasks(made, tm.FeatureSpec().fit(made))
    learned, judged = tasks.split(0.25, seed=3)
    assert len(judged) == round(0.25 * len(tasks))
    assert not set(learned.names) & set(judged.names)
    assert not set(learned.events) & set(judged.events)
    turned = tasks.take(np.arange(len(tasks))[::-1])
    assert set(turned.split(0.25, seed=3)[1].names) == set(judged.names)
    assert set(tasks.split(0.25, seed=4)[1].names) != set(judged.names)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_share_out_of_range_is_refused(data, spec, share):
    with pytest.raises(ValueError, match="share between 0 and 1"):
        user_tasks(data, spec).split(share)


def test_single_task_cannot_be_split(data, spec):
    with pytest.raises(ValueError, match="the data has 1"):
        user_tasks(data, spec).take(np.array([0])).split()


def test_support_events_come_before_query_events(data, spec):
    episodes = Episodes(user_tasks(data, spec), EpisodeConfig(shots=(2, 2), query=3))
    assert episodes.left_out == 2  # v has no items left for a query, w has too few
    (batch,) = episodes.epoch()
    assert list(spec.items.decode(batch["support_item"][0])) == ["a", "b"]
    assert list(batch["query_item"][0]) == [spec.items.encode(["c"])[0], 0, 0]
    assert list(batch["query_mask"][0]) == [1.0, 0.0, 0.0]
    assert list(batch["query_label"][0]) == [1.0, 0.0, 0.0]


def test_same_query_is_independent_of_the_number_of_shots(data, spec):
    config = EpisodeConfig(shots=(0, 2), query=3, same_query=True)
    episodes = Episodes(user_tasks(data, spec).take(np.array([0, 1])), config)
    shots = set()
    for number in range(20):
        for batch in episodes.epoch(number):
            asked = dict(zip(batch["task"], batch["query_item"].tolist(), strict=True))
            assert asked == {
                0: [*spec.items.encode(["c"]), 0, 0],
                1: [*spec.items.encode(["d"]), 0, 0],
            }
            first = batch["support_item"][list(batch["task"]).index(0)]
            shots.add(tuple(first[first > 0]))
    a, b = spec.items.encode(["a", "b"])
    assert shots == {(), (a,), (a, b)}


@pytest.fixture(scope="module")
def made():
    made = tm.synthetic(users=50, items=60, interactions=900, seed=1)
    return user_tasks(made, tm.FeatureSpec().fit(made))


@pytest.mark.parametrize("order", ["time", "random"])
def test_support_and_query_are_disjoint_and_padded_with_zeros(made, order):
    config = EpisodeConfig((0, 5), query=4, order=order, tasks_per_batch=16)
    episodes = Episodes(made, config)
    seen, shots = [], set()
    for batch in episodes.epoch():
        assert batch["support_item"].shape[1] == 5
        assert batch["query_item"].shape[1] == 4
        for row, task in enumerate(batch["task"]):
            support = batch["support_item"][row][batch["support_mask"][row] > 0]
            query = batch["query_item"][row][batch["query_mask"][row] > 0]
            assert len(query) > 0
            assert len(set(support) | set(query)) == len(support) + len(query)
            events = made.events[episodes.tasks.start[task] : episodes.tasks.start[task + 1]]
            assert set(query) <= set(made.item[events])
            shots.add(len(support))
        assert (batch["support_item"][batch["support_mask"] == 0] == 0).all()
        assert (batch["query_user"][batch["query_mask"] == 0] == 0).all()
        seen += list(batch["task"])
    assert sorted(seen) == list(range(len(episodes.tasks)))
    assert shots == {0, 1, 2, 3, 4, 5}
    assert len(episodes) == len(list(episodes.epoch()))


def test_log_spacing_draws_few_shots_more_often(made):
    episodes = Episodes(made.at_least(12), EpisodeConfig((1, 8), spacing="log"))
    counts = np.zeros(10, int)
    for number in range(40):
        for batch in episodes.epoch(number):
            counts += np.bincount(batch["support_mask"].sum(axis=1).astype(int), minlength=10)
    share = counts / counts.sum()
    # Of log(10 / 2): log(3 / 2) is one shot, log(10 / 9) are eight.
    assert share[1] == pytest.approx(np.log(1.5) / np.log(5), abs=0.05)
    assert share[8] == pytest.approx(np.log(10 / 9) / np.log(5), abs=0.03)
    assert share[0] == share[9] == 0


def test_epochs_differ_and_the_same_seed_repeats_them(made):
    first, same, next_epoch, other = (
        next(Episodes(made, EpisodeConfig(seed=seed)).epoch(number))
        for seed, number in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert all((first[name] == same[name]).all() for name in first)
    assert (first["task"] != next_epoch["task"]).any()
    assert (first["task"] != other["task"]).any()


def test_dataset_yields_the_same_batches(made):
    episodes = Episodes(made, EpisodeConfig(tasks_per_batch=20))
    expected = [batch for number in (3, 4) for batch in episodes.epoch(number)]
    found = list(episodes.dataset(epochs=2, first=3).as_numpy_iterator())
    assert len(found) == len(expected) == 2 * len(episodes)
    for one, other in zip(found, expected, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in other)
        assert all(one[name].dtype == other[name].dtype for name in other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shots": (3, 2)}, r"`shots`=\(3, 2\)"),
        ({"shots": (-1, 2)}, "`shots`"),
        ({"shots": (0, 0)}, "`shots`"),
        ({"query": 0}, "`query`=0"),
        ({"tasks_per_batch": 0}, "`tasks_per_batch`=0"),
        ({"order": "size"}, "`order`='size'"),
        ({"spacing": "wide"}, "`spacing`='wide'"),
    ],
)
def test_invalid_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        EpisodeConfig(**change)


def test_error_if_all_tasks_are_too_small(made):
    with pytest.raises(ValueError, match="Lower the minimum of `shots`"):
        Episodes(made, EpisodeConfig(shots=(1000, 1000)))
