"""A shop: customers view what the shop shows them and what they like, and buy what they like."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tfrec_meta.data.samples.tastes import DAY, Tastes, active_users, ids, log, titles

_WORDS = {
    "tea": "green black herbal mint assam oolong chai darjeeling",
    "garden": "rake spade seeds planter hose gloves trellis compost",
    "kitchen": "pan whisk kettle knife board bowl grinder apron",
    "sport": "ball racket mat bottle jersey weights rope shoes",
    "toys": "puzzle train blocks doll kite marbles robot drum",
    "books": "atlas novel poems history diary comics dictionary essays",
}
_DAYS = 60


def draw_shop(users: int, seed: int) -> dict[str, pa.Table]:
    """Draws `events.csv` (time, customer, product, action) and `items.csv` of a shop.

    Half of the views are of products that the home page shows to all customers. The better a
    product suits the customer, the more often a view is followed by a cart and a purchase. One
    product in ten is out of stock.

    Args:
        users: number of customers; there are 30 views per customer.
        seed: of the random numbers.
    """
    rng = np.random.default_rng([seed, 1])
    items = max(users // 4, 100)
    tastes = Tastes.draw(rng, list(_WORDS), users, items)
    viewer = active_users(rng, users, 30 * users)
    viewed = tastes.choose_half_shown(rng, viewer)
    moment = rng.random(len(viewer)) * _DAYS * DAY
    carted = rng.random(len(viewer)) < 0.35 * tastes.fit(viewer, viewed)
    bought = carted & (rng.random(len(viewer)) < 0.6)
    who = np.concatenate([viewer, viewer[carted], viewer[bought]])
    what = np.concatenate([viewed, viewed[carted], viewed[bought]])
    when = np.concatenate([moment, moment[carted] + 90, moment[bought] + 300])
    counts = len(viewer), int(carted.sum()), int(bought.sum())
    action = np.repeat(["view", "cart", "purchase"], counts)
    columns = {"customer": ids("c", who), "product": ids("p", what), "action": action.tolist()}
    in_stock = np.where(rng.random(items) < 0.1, "no", "yes")
    catalogue = {
        "product": ids("p", np.arange(items)),
        "title": titles(rng, _WORDS, tastes.names()),
        "category": tastes.names(),
        "price": np.round(rng.lognormal(3.0, 0.5, items), 2),
        "in_stock": in_stock.tolist(),
    }
    return {"events.csv": log(when, columns), "items.csv": pa.table(catalogue)}
