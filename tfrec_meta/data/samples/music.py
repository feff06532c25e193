"""Music: listeners play tracks of one genre after another, and their favourites again and again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tfrec_meta.data.samples.tastes import DAY, Tastes, active_users, ids, log, titles

_WORDS = {
    "jazz": "blue midnight swing velvet quartet smoke avenue nocturne",
    "rock": "thunder highway electric rebel stone fire amplifier road",
    "classical": "sonata prelude allegro minor fugue requiem waltz opus",
    "techno": "pulse circuit warehouse strobe modular signal loop neon",
    "folk": "river harvest fiddle lantern meadow ballad orchard hearth",
    "pop": "summer heartbeat dance glitter phone crush sunshine weekend",
}
_DAYS = 60
_FAVOURITES = 12  # tracks of a listener
_PLAYS = 8  # per session
_TRACK = 210  # seconds


def draw_music(users: int, seed: int) -> dict[str, pa.Table]:
    """Draws `events.csv` (time, listener, track) and `items.csv` of a music service.

    A session is eight plays of one topic of the listener's taste. Two plays in three are of the
    listener's twelve favourite tracks, if any of them fits the session.

    Args:
        users: number of listeners; there are five sessions per listener.
        seed: of the random numbers.
    """
    rng = np.random.default_rng([seed, 4])
    items = max(users, 120)
    tastes = Tastes.draw(rng, list(_WORDS), users, items)
    favourite = tastes.choose(rng, np.repeat(np.arange(users), _FAVOURITES))
    favourite = favourite.reshape(users, _FAVOURITES)
    listener = active_users(rng, users, 5 * users)
    mood = tastes.topic[tastes.choose(rng, listener)]
    begin = rng.random(len(listener)) * _DAYS * DAY
    of_mood = [np.flatnonzero(tastes.topic == topic) for topic in range(len(tastes.topics))]
    track = np.empty((len(listener), _PLAYS), np.int64)
    for row, (who, topic) in enumerate(zip(listener, mood, strict=True)):
        appeal = tastes.appeal[of_mood[topic]]
        track[row] = rng.choice(of_mood[topic], _PLAYS, p=appeal / appeal.sum())
        own = favourite[who][tastes.topic[favourite[who]] == topic]
        if len(own):
            again = rng.random(_PLAYS) < 2 / 3
            track[row, again] = rng.choice(own, again.sum())
    moment = begin[:, None] + _TRACK * np.arange(_PLAYS)
    columns = {
        "listener": ids("l", np.repeat(listener, _PLAYS)),
        "track": ids("t", track.ravel()),
    }
    catalogue = {
        "track": ids("t", np.arange(items)),
        "title": titles(rng, _WORDS, tastes.names(), length=2),
        "artist": [f"{name} artist {number}" for name, number in _artists(rng, tastes)],
        "genre": tastes.names(),
    }
    return {"events.csv": log(moment.ravel(), columns), "items.csv": pa.table(catalogue)}


def _artists(rng: np.random.Generator, tastes: Tastes) -> list[tuple[str, int]]:
    """The genre and the number of each track's artist; an artist has some ten tracks."""
    per_topic = max(len(tastes.topic) // len(tastes.topics) // 10, 1)
    numbers = rng.integers(1, per_topic + 1, len(tastes.topic)).tolist()
    return list(zip(tastes.names(), numbers, strict=True))
