"""News: readers click on articles of the last hours, by their topics."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tfrec_meta.data.samples.tastes import DAY, START, Tastes, active_users, ids, log, titles

_WORDS = {
    "politics": "parliament vote minister budget coalition treaty reform senate",
    "economy": "bank prices exports jobs shares trade inflation wages",
    "sport": "final league striker marathon coach transfer medal keeper",
    "science": "telescope vaccine fossil climate reactor genome probe glacier",
    "culture": "museum opera novel festival painter theatre orchestra film",
    "local": "bridge council school harbour tram market library station",
}
_DAYS = 3
_HOUR = 3600
_HALF_LIFE = 6 * _HOUR / np.log(2)  # seconds until an article is clicked on half as often


def draw_news(users: int, seed: int) -> dict[str, pa.Table]:
    """Draws `events.csv` (time, reader, article) and `items.csv` of a news site.

    An article is published every 15 minutes and is clicked on for a day, half as often after six
    hours.

    Args:
        users: number of readers; there are 15 clicks per reader.
        seed: of the random numbers.
    """
    rng = np.random.default_rng([seed, 2])
    items = _DAYS * DAY // (15 * 60)
    tastes = Tastes.draw(rng, list(_WORDS), users, items)
    published = np.sort(rng.random(items)) * _DAYS * DAY
    reader = active_users(rng, users, 15 * users)
    moment = np.sort(rng.random(len(reader))) * _DAYS * DAY
    article = np.empty(len(reader), np.int64)
    hour = (moment // _HOUR).astype(int)
    for each in np.unique(hour):
        rows = hour == each
        age = moment[rows].min() - published
        offered = (age >= 0) & (age < DAY)
        # A reader may like no topic of the last hours; then any article is chosen.
        chance = np.where(offered, 0.5 ** (np.maximum(age, 0) / _HALF_LIFE), 1e-12)
        article[rows] = tastes.choose(rng, reader[rows], chance)
    columns = {"reader": ids("r", reader), "article": ids("a", article)}
    times = START + published.astype(np.int64).astype("timedelta64[s]")
    catalogue = {
        "article": ids("a", np.arange(items)),
        "title": titles(rng, _WORDS, tastes.names(), length=4),
        "section": tastes.names(),
        "published": np.datetime_as_string(times).tolist(),
    }
    return {"events.csv": log(moment, columns), "items.csv": pa.table(catalogue)}
