"""The long tail, and the number of users that a comparison needs."""

import pytest

from tfrec_meta.data import Interactions
from tfrec_meta.pipeline.gates import user_metrics


def test_the_long_tail_has_the_rarest_items_up_to_the_share():
    """Of 10 events a has 5, b 3, c 1 and d 1: the rarest items with up to 0.2 are c and d."""
    past = Interactions.from_arrays(range(10), list("aaaaabbbcd"))
    test = Interactions.from_arrays(range(5), list("abcde"))
    tail = {
        share: user_metrics.long_tail_events(past, test, share).events["item_id"].to_pylist()
        for share in (0.1, 0.2, 0.4, 0.5)
    }
    # With 0.1 neither c nor d fits without the other; e has no past events.
    assert tail == {
        0.1: ["e"],
        0.2: ["c", "d", "e"],
        0.4: ["c", "d", "e"],
        0.5: ["b", "c", "d", "e"],
    }


@pytest.mark.parametrize("confidence, users", [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_fewest_users_is_that_of_a_sign_test(confidence, users):
    """2 / 2^6 is 0.031, 2 / 2^5 is 0.0625."""
    assert user_metrics.fewest_users(confidence) == users
