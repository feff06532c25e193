import numpy as np
import pytest

from tfrec_meta.data import histories, synthetic, synthetic_factors


@pytest.fixture(scope="module")
def data():
    return synthetic(400, 200, 20_000, seed=3, categories=4)


def numbers(column):
    return np.array([int(token[1:]) for token in column.to_pylist()])


def test_has_the_requested_number_of_events_and_no_repeats(data):
    assert len(data) == 20_000
    assert len(data.user_ids) == 400
    assert data.profile()["repeated_pairs"] == 0
    assert data.users.num_rows == 400
    assert data.items.column_names == ["item_id", "title", "category", "price", "year"]
    assert data.items.num_rows == 200


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(data):
    assert data.equals(synthetic(400, 200, 20_000, seed=3, categories=4))
    assert not data.equals(synthetic(400, 200, 20_000, seed=4, categories=4))


def test_rows_are_in_order_of_time(data):
    assert (np.diff(data.times) >= 0).all()
    assert data.profile()["span_days"] > 300


def test_popularity_has_a_tail_that_zipf_sets():
    ginis = [
        synthetic(500, 400, 10_000, zipf=zipf).profile()["popularity_gini"]
        for zipf in (0.0, 0.7, 1.4)
    ]
    assert ginis[0] < 0.25 < ginis[1] < ginis[2]


def test_factors_are_chances_and_do_not_need_the_events():
    tastes, appeal = synthetic_factors(400, 200, seed=3, categories=4)
    assert (tastes.shape, appeal.shape) == ((400, 4), (200, 4))
    np.testing.assert_allclose(tastes.sum(axis=1), 1)
    np.testing.assert_allclose(appeal.sum(axis=0), 1)


def test_users_meet_what_their_tastes_say(data):
    tastes, appeal = synthetic_factors(400, 200, seed=3, categories=4)
    users, items = numbers(data.events["user_id"]), numbers(data.events["item_id"])
    chance = tastes @ appeal.T
    seen = np.log(chance[users, items]).mean()
    someone_else = np.log(chance[np.random.default_rng(0).permutation(users), items]).mean()
    assert seen > someone_else + 0.2


def test_fresh_draws_follow_the_factors():
    # Few draws from many items, no drift: repeats are rare, so the shares are the chances.
    tastes, appeal = synthetic_factors(1, 20_000, seed=1, zipf=0.0)
    data = synthetic(1, 20_000, 1000, seed=1, zipf=0.0, drift=0.0)
    own = appeal.argmax(axis=1)
    share = np.bincount(own[numbers(data.events["item_id"])], minlength=8) / 1000
    expected = (tastes @ appeal.T)[0]
    expected = np.bincount(own, weights=expected, minlength=8)
    np.testing.assert_allclose(share, expected, atol=0.06)


def test_drift_leads_to_the_next_category():
    data = synthetic(300, 2000, 20_000, seed=2, categories=5, drift=0.9, zipf=0.3)
    _, appeal = synthetic_factors(300, 2000, seed=2, categories=5, zipf=0.3)
    own = (appeal / appeal.sum(axis=1, keepdims=True)).argmax(axis=1)
    category = own[numbers(data.events["item_id"])]
    before = histories(data).window(np.arange(len(data)), 1)[:, 0]
    step = (category - category[before])[before >= 0] % 5
    assert np.bincount(step, minlength=5).argmax() == 1
    assert (step == 1).mean() > 0.6


def test_columns_go_with_the_latent_structure(data):
    tastes, _ = synthetic_factors(400, 200, seed=3, categories=4)
    segments = np.array(data.users["segment"].to_pylist())
    for favourite in range(4):
        assert len(set(segments[tastes.argmax(axis=1) == favourite])) == 1
    prices, categories = (data.items[name].to_numpy() for name in ("price", "category"))
    means = [np.log(prices[categories == name]).mean() for name in np.unique(categories)]
    assert np.ptp(means) > 0.5
    assert all(len(title.split()) == 3 for title in data.items["title"].to_pylist())


def test_values_grow_with_liking(data):
    tastes, appeal = synthetic_factors(400, 200, seed=3, categories=4)
    users, items = numbers(data.events["user_id"]), numbers(data.events["item_id"])
    lift = (tastes @ appeal.T)[users, items] / (tastes.mean(axis=0) @ appeal.T)[items]
    values = data.events["value"].to_numpy()
    assert set(np.unique(values)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert np.corrcoef(np.log(lift), values)[0, 1] > 0.5


def test_the_extremes_work():
    assert len(synthetic(1, 1, 1)) == 1
    assert len(synthetic(5, 10, 25)) == 25  # half of all pairs
    assert len(synthetic(100, 10, 7).user_ids) <= 7
    assert len(synthetic(10, 10, 20, categories=20)) == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": 0}, "`users`=0"),
        ({"items": 0}, "`items`=0"),
        ({"categories": 0}, "`categories`=0"),
        ({"interactions": 0}, "`interactions`=0"),
        ({"users": 2, "items": 10, "interactions": 11}, "can have 1 to 10"),
        ({"drift": 1.0}, "`drift`=1.0"),
        ({"zipf": -1.0}, "`zipf`=-1.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**arguments)
