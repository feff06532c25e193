"""Synthetic interactions from known tastes, with a popularity tail and sequential structure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec_meta.data.interactions import Interactions

_THEMES = {
    "sea": ("Tide", "Harbour", "Island", "Voyage"),
    "crime": ("Heist", "Witness", "Alibi", "Verdict"),
    "space": ("Orbit", "Comet", "Station", "Eclipse"),
    "romance": ("Letter", "Waltz", "Promise", "Summer"),
    "war": ("Front", "Siege", "Bridge", "Armistice"),
    "comedy": ("Mishap", "Wedding", "Cousin", "Holiday"),
    "music": ("Ballad", "Encore", "Chorus", "Melody"),
    "nature": ("Forest", "River", "Meadow", "Mountain"),
}
_ADJECTIVES = ("Quiet", "Last", "Golden", "Hidden", "Distant", "Broken", "First", "Secret", "Late")
_EPOCH = 1_600_000_000  # Unix seconds of the earliest possible event
_SPAN = 2 * 365 * 86_400  # seconds
_CHUNK = 1 << 20  # events handled at a time where a step needs a row of factors for each
_PURITY = 0.9  # share of an item that belongs to its own category
_MOST = 100_000_000  # users or items
_EXHAUSTED = 12  # rounds of redrawing repeats before items of any category are drawn


def synthetic_factors(
    users: int, items: int, *, seed: int = 0, categories: int = 8, zipf: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the latent factors behind `synthetic` with the same arguments.

    Returns:
        (tastes float64 [users, categories], whose rows sum to 1; appeal float64
        [items, categories], whose columns sum to 1). Row i belongs to token "u{i}" or "i{i}".
        `tastes @ appeal.T` is the probability of each item in a fresh draw of each user.
    """
    for argument, value in (("users", users), ("items", items), ("categories", categories)):
        if not 1 <= value <= _MOST:
            raise ValueError(f"`{argument}`={value}; use 1 to {_MOST:,}.")
    if zipf < 0:
        raise ValueError(f"`zipf`={zipf}; use 0 (equal popularity) or more.")
    rng = np.random.default_rng([seed, 0])
    tastes = rng.dirichlet(np.full(categories, 0.3), users)
    own = rng.integers(categories, size=items)
    belongs = (1 - _PURITY) * rng.dirichlet(np.ones(categories), items)
    belongs[np.arange(items), own] += _PURITY
    popularity = (1.0 + rng.permutation(items)) ** -zipf
    appeal = popularity[:, None] * belongs
    return tastes, appeal / appeal.sum(axis=0)


def synthetic(
    users: int = 1000,
    items: int = 500,
    interactions: int = 30_000,
    *,
    seed: int = 0,
    categories: int = 8,
    zipf: float = 1.0,
    drift: float = 0.3,
    name: str = "synthetic",
) -> Interactions:
    """Draws interactions from known tastes; the same arguments give the same rows.

    The category of an event follows the category of the user's previous event in a fixed cycle,
    with probability `drift`; otherwise it is drawn from the user's tastes. Then an item of that
    category is drawn by its appeal (`synthetic_factors` returns both). No user has two events with
    an item. Values from 1 to 5 increase with the user's preference. Rows are in order of time.

    Args:
        users, items, interactions: their numbers; at most half of all pairs interact. Each user has
            an event if there are enough; unpopular items may have none.
        seed: of the random numbers.
        categories: rank of the latent structure.
        zipf: exponent of the popularity tail; with 0, all items are equally popular.
        drift: probability that the category follows from the previous event, [0, 1).
        name: the name of the data.

    Returns:
        Interactions with users (segment: the favourite category; age) and items (title, category,
        price, year). Segment, category and price depend on the latent factors.

    Example:
        >>> import tfrec_meta as tm
        >>> tm.synthetic(users=20, items=10, interactions=100)
        Interactions('synthetic': 100 events, 20 users, 10 items)
    """
    tastes, appeal = synthetic_factors(users, items, seed=seed, categories=categories, zipf=zipf)
    if not 0 <= drift < 1:
        raise ValueError(f"`drift`={drift}; use 0 to below 1.")
    limit = max(items // 2, 1)
    if not 1 <= interactions <= users * limit:
        raise ValueError(
            f"`interactions`={interactions}, but {users} users of {items} items can have 1 to "
            f"{users * limit}; use fewer, or more users or items."
        )
    rng = np.random.default_rng([seed, 1])
    count = _activity(users, interactions, limit, rng)
    user = np.repeat(np.arange(users, dtype=np.int32), count)
    category = _categories(user, count, tastes, drift, rng)
    item = _items(user, category, appeal, rng)
    time = _times(count, rng)
    order = np.argsort(time, kind="stable")
    user, item, time = user[order], item[order], time[order]

    user_ids, item_ids = _tokens("u", users), _tokens("i", items)
    events = pa.table(
        {
            "user_id": user_ids.take(pa.array(user)),
            "item_id": item_ids.take(pa.array(item)),
            "time": time,
            "value": _values(user, item, tastes, appeal, rng),
        }
    )
    return Interactions(
        events, _user_table(user_ids, tastes, rng), _item_table(item_ids, appeal, rng), name
    )


def _activity(users: int, interactions: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the number of events per user: log-normal, from 1 (if possible) to `limit`."""
    weight = rng.lognormal(0.0, 1.0, users)
    count = np.zeros(users, np.int64)
    if interactions >= users:
        count += 1
    while (left := interactions - int(count.sum())) > 0:
        room = np.where(count < limit, weight, 0.0)
        count = np.minimum(count + rng.multinomial(left, room / room.sum()), limit)
    return count


def _categories(
    user: np.ndarray,
    count: np.ndarray,
    tastes: np.ndarray,
    drift: float,
    rng: np.random.Generator,
) -> np.ndarray:
    size, categories = len(user), tastes.shape[1]
    fresh = rng.random(size) >= drift
    fresh[(np.cumsum(count) - count)[count > 0]] = True
    steps = np.cumsum(tastes, axis=1)[:, :-1].astype(np.float32)
    category = np.empty(size, np.int32)
    for start in range(0, size, _CHUNK):
        rows = slice(start, start + _CHUNK)
        draw = rng.random(len(user[rows]), dtype=np.float32)
        category[rows] = (draw[:, None] >= steps[user[rows]]).sum(axis=1)
    place = np.arange(size)
    since = np.maximum.accumulate(np.where(fresh, place, 0))
    return ((category[since] + place - since) % categories).astype(np.int32)


def _items(
    user: np.ndarray, category: np.ndarray, appeal: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws an item of each event's category; repeated items of a user are drawn again."""
    items, categories = appeal.shape
    # Category c is the interval [c, c + 1) of one line, so that one search covers all categories.
    line = (np.cumsum(appeal, axis=0) + np.arange(categories)).T.ravel()

    def draw(category: np.ndarray) -> np.ndarray:
        found = np.searchsorted(line, category + rng.random(len(category)), side="right")
        return np.clip(found - category * np.int64(items), 0, items - 1).astype(np.int32)

    item = draw(category)
    pair = user * np.int64(items) + item
    taken, first = np.unique(pair, return_index=True)
    repeats = np.ones(len(pair), bool)
    repeats[first] = False
    rows = np.flatnonzero(repeats)
    later = np.empty(0, np.int64)
    for attempt in range(1 << 20):
        if not len(rows):
            break
        if attempt < _EXHAUSTED:
            item[rows] = draw(category[rows])
        else:  # the user has all popular items of a category; any item is allowed
            item[rows] = rng.integers(items, size=len(rows))
        pair = user[rows] * np.int64(items) + item[rows]
        fresh = ~_contains(taken, pair) & ~_contains(later, pair)
        single = np.zeros(len(pair), bool)
        single[np.unique(pair, return_index=True)[1]] = True
        later = np.sort(np.concatenate([later, pair[fresh & single]]))
        rows = rows[~(fresh & single)]
    return item


def _contains(ordered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(len(wanted), bool)
    place = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return ordered[place] == wanted


def _times(count: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws ascending Unix seconds per user: a start, then gaps that fill a part of the span."""
    users, size = len(count), int(count.sum())
    start = rng.random(users) * 0.9
    stretch = (1 - start) * rng.uniform(0.05, 1.0, users)
    elapsed = np.cumsum(rng.standard_exponential(size))
    end = np.cumsum(count)
    seen = count > 0
    before, whole = np.zeros(users), np.ones(users)
    before[seen] = elapsed[(end - count)[seen]]
    whole[seen] = np.maximum(elapsed[end[seen] - 1] - before[seen], 1e-9)
    share = (elapsed - np.repeat(before, count)) * np.repeat(stretch / whole, count)
    return (_EPOCH + _SPAN * (np.repeat(start, count) + share)).astype(np.int64)


def _values(
    user: np.ndarray,
    item: np.ndarray,
    tastes: np.ndarray,
    appeal: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws ratings from 1 to 5: the lift of the item for the user over all users, plus noise."""
    tastes32, appeal32 = tastes.astype(np.float32), appeal.astype(np.float32)
    usual = appeal32 @ tastes32.mean(axis=0)
    value = np.empty(len(user), np.float32)
    for start in range(0, len(user), _CHUNK):
        rows = slice(start, start + _CHUNK)
        chance = np.einsum("ij,ij->i", tastes32[user[rows]], appeal32[item[rows]])
        lift = np.log(np.maximum(chance, 1e-12) / usual[item[rows]])
        noise = 0.7 * rng.standard_normal(len(lift), dtype=np.float32)
        value[rows] = np.clip(np.rint(3.0 + lift + noise), 1, 5)
    return value


def _tokens(prefix: str, count: int) -> pa.Array:
    numbers = pa.array(np.arange(count)).cast(pa.string())
    return pc.binary_join_element_wise(prefix, numbers, "")


def _category_names(categories: int) -> list[str]:
    themes = list(_THEMES)
    rounds = [divmod(number, len(themes)) for number in range(categories)]
    return [themes[place] + (f" {again + 1}" if again else "") for again, place in rounds]


def _user_table(user_ids: pa.Array, tastes: np.ndarray, rng: np.random.Generator) -> pa.Table:
    favourite = tastes.argmax(axis=1)
    age = rng.normal(25 + 35 * favourite / max(tastes.shape[1] - 1, 1), 8).clip(14, 90)
    names = pa.array(_category_names(tastes.shape[1]))
    return pa.table(
        {
            "user_id": user_ids,
            "segment": names.take(pa.array(favourite)),
            "age": age.astype(np.int32),
        }
    )


def _item_table(item_ids: pa.Array, appeal: np.ndarray, rng: np.random.Generator) -> pa.Table:
    items, categories = appeal.shape
    category = (appeal / appeal.sum(axis=1, keepdims=True)).argmax(axis=1)
    nouns = np.array(list(_THEMES.values()), object)
    noun = nouns[category % len(nouns), rng.integers(nouns.shape[1], size=items)]
    adjective = np.array(_ADJECTIVES, object)[rng.integers(len(_ADJECTIVES), size=items)]
    number = pa.array(np.arange(1, items + 1)).cast(pa.string())
    title = pc.binary_join_element_wise(pa.array(adjective), pa.array(noun), number, " ")
    price = np.exp(rng.normal(1.5 + category / max(categories - 1, 1), 0.3)).astype(np.float32)
    return pa.table(
        {
            "item_id": item_ids,
            "title": title,
            "category": pa.array(_category_names(categories)).take(pa.array(category)),
            "price": np.round(price, 2),
            "year": rng.integers(1960, 2024, size=items).astype(np.int32),
        }
    )
