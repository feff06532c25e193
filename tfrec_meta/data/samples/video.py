"""Video: viewers try what is shown to them, and watch to the end what they like."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tfrec_meta.data.samples.tastes import DAY, Tastes, active_users, ids, log, titles

_WORDS = {
    "cooking": "soup bread curry grill dessert pasta roast salad",
    "travel": "island desert rail mountain harbour canyon village coast",
    "gaming": "quest arena racing puzzle dungeon strategy pixel speedrun",
    "music": "concert cover piano drums studio chorus remix acoustic",
    "science": "rocket magnet crystal laser orbit chemistry robot ocean",
    "comedy": "sketch prank standup parody office blooper roast improv",
}
_DAYS = 60


def draw_video(users: int, seed: int) -> dict[str, pa.Table]:
    """Draws `events.csv` (time, viewer, video, minutes, outcome) and `items.csv` of a video site.

    Half of the plays start from the home page, which is the same for all. The better a video suits
    the viewer, the more often the outcome is "complete" and not "abandoned".

    Args:
        users: number of viewers; there are 25 plays per viewer.
        seed: of the random numbers.
    """
    rng = np.random.default_rng([seed, 3])
    items = max(users // 2, 200)
    tastes = Tastes.draw(rng, list(_WORDS), users, items)
    length = np.round(rng.gamma(3.0, 5.0, items) + 2, 1)  # minutes
    viewer = active_users(rng, users, 25 * users)
    video = tastes.choose_half_shown(rng, viewer)
    complete = rng.random(len(viewer)) < 0.05 + 0.85 * tastes.fit(viewer, video)
    part = np.where(complete, 1.0, rng.uniform(0.02, 0.6, len(viewer)))
    columns = {
        "viewer": ids("v", viewer),
        "video": ids("f", video),
        "minutes": np.maximum(np.round(part * length[video], 2), 0.1),
        "outcome": np.where(complete, "complete", "abandoned").tolist(),
    }
    catalogue = {
        "video": ids("f", np.arange(items)),
        "title": titles(rng, _WORDS, tastes.names()),
        "genre": tastes.names(),
        "length": length,
    }
    moment = rng.random(len(viewer)) * _DAYS * DAY
    return {"events.csv": log(moment, columns), "items.csv": pa.table(catalogue)}
