"""Sample data of each kind of product has the shape of real data, and known tastes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tfrec_meta.data.samples.feed import draw_feed
from tfrec_meta.data.samples.music import draw_music
from tfrec_meta.data.samples.news import draw_news
from tfrec_meta.data.samples.shop import draw_shop
from tfrec_meta.data.samples.tastes import Tastes
from tfrec_meta.data.samples.video import draw_video

ALL = (draw_shop, draw_news, draw_video, draw_music, draw_feed)
IDS = {"draw_shop": "product", "draw_news": "article", "draw_video": "video"}
IDS |= {"draw_music": "track", "draw_feed": "post"}


@pytest.mark.parametrize("draw", ALL)
def test_events_are_in_order_of_time_and_have_items_of_the_table(draw):
    tables = draw(60, seed=3)
    events, items = tables["events.csv"], tables["items.csv"]
    times = events["time"].to_pylist()
    assert times == sorted(times)
    key = IDS[draw.__name__]
    assert set(events[key].to_pylist()) <= set(items[key].to_pylist())
    assert items[key].to_pylist() == list(dict.fromkeys(items[key].to_pylist()))
    assert not any(column.null_count for table in tables.values() for column in table.columns)


@pytest.mark.parametrize("draw", ALL)
def test_a_seed_gives_the_same_rows_again(draw):
    first, again, other = draw(30, seed=1), draw(30, seed=1), draw(30, seed=2)
    assert first == again
    assert first["events.csv"] != other["events.csv"]


def test_choices_follow_taste_appeal_and_what_is_offered():
    tastes = Tastes(
        ("a", "b"),
        share=np.array([[1.0, 0.0], [0.0, 1.0]]),
        topic=np.array([0, 0, 1]),
        appeal=np.array([3.0, 1.0, 1.0]),
    )
    rng = np.random.default_rng(0)
    chosen = tastes.choose(rng, np.repeat([0, 1], 4000))
    assert (chosen[4000:] == 2).all()
    assert np.bincount(chosen[:4000]) / 4000 == pytest.approx([0.75, 0.25], abs=0.03)
    assert (tastes.choose(rng, np.zeros(9, int), np.array([0.0, 1.0, 1.0])) == 1).all()
    assert tastes.fit(np.array([0, 1]), np.array([2, 2])).tolist() == [0.0, 1.0]


def test_a_purchase_follows_a_cart_and_a_view_of_the_product():
    events = draw_shop(60, seed=1)["events.csv"].to_pylist()
    seen = {"view": set(), "cart": set(), "purchase": set()}
    for event in events:
        pair = event["customer"], event["product"]
        seen[event["action"]].add(pair)
        if event["action"] == "cart":
            assert pair in seen["view"]
        elif event["action"] == "purchase":
            assert pair in seen["cart"]
    assert 0 < len(seen["purchase"]) < len(seen["cart"]) < len(seen["view"])


def test_news_are_clicked_on_for_a_day():
    tables = draw_news(60, seed=1)
    joined = tables["events.csv"].join(tables["items.csv"], "article")
    clicked, published = (
        pc.strptime(joined[name], "%Y-%m-%dT%H:%M:%S", "s").cast(pa.int64()).to_numpy()
        for name in ("time", "published")
    )
    hours = (clicked - published) / 3600
    assert np.mean((hours >= 0) & (hours <= 25)) > 0.97  # few readers like no recent topic
    assert np.median(hours) < 9


def test_two_plays_in_three_are_repeated():
    plays = draw_music(60, seed=1)["events.csv"]
    pairs = plays.group_by(["listener", "track"]).aggregate([("time", "count")])
    repeated = 1 - pairs.num_rows / plays.num_rows
    assert 0.4 < repeated < 0.9


def test_the_depth_of_an_action_is_its_number():
    events = draw_feed(60, seed=1)["events.csv"].to_pylist()
    found = {(event["action"], event["depth"]) for event in events}
    assert found == {("hide", 0), ("click", 1), ("like", 2), ("share", 3)}


def test_complete_plays_are_as_long_as_the_video():
    tables = draw_video(60, seed=1)
    joined = tables["events.csv"].join(tables["items.csv"], "video").to_pylist()
    for row in joined:
        share = row["minutes"] / row["length"]
        assert share == pytest.approx(1, abs=0.01) if row["outcome"] == "complete" else share < 0.7
        assert row["minutes"] > 0
