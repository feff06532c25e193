"""A social feed: members click on, like, share or hide the posts that are shown to them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tfrec_meta.data.samples.tastes import DAY, Tastes, active_users, ids, log, titles

_WORDS = {
    "cats": "kitten whiskers purring tabby paws nap yarn windowsill",
    "running": "marathon interval trail shoes pace finish training sunrise",
    "baking": "sourdough crumb oven rye cinnamon dough butter crust",
    "photography": "lens portrait film darkroom shutter dusk tripod grain",
    "gardening": "tomato compost seedling bloom prune greenhouse soil bees",
    "chess": "gambit endgame knight opening rook blitz tactics castle",
}
_ACTIONS = ("hide", "click", "like", "share")
_DAYS = 14


def draw_feed(users: int, seed: int) -> dict[str, pa.Table]:
    """Draws `events.csv` (time, member, post, action, depth) and `items.csv` of a social feed.

    The feed shows popular posts, and posts of the member's taste. The better a post suits the
    member, the deeper the action: 0 to hide, 1 to click, 2 to like and 3 to share.

    Args:
        users: number of members; there are 30 actions per member.
        seed: of the random numbers.
    """
    rng = np.random.default_rng([seed, 5])
    items = max(users // 2, 200)
    tastes = Tastes.draw(rng, list(_WORDS), users, items)
    member = active_users(rng, users, 30 * users)
    post = tastes.choose_half_shown(rng, member)
    joy = tastes.fit(member, post) + rng.normal(0.0, 0.15, len(member))
    depth = np.digitize(joy, (0.05, 0.4, 0.75))
    columns = {
        "member": ids("m", member),
        "post": ids("s", post),
        "action": [_ACTIONS[row] for row in depth],
        "depth": depth.tolist(),
    }
    catalogue = {
        "post": ids("s", np.arange(items)),
        "title": titles(rng, _WORDS, tastes.names(), length=4),
        "topic": tastes.names(),
        "author": [f"author {row}" for row in rng.integers(0, max(items // 10, 1), items)],
    }
    moment = rng.random(len(member)) * _DAYS * DAY
    return {"events.csv": log(moment, columns), "items.csv": pa.table(catalogue)}
