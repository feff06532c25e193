"""Inputs of signatures inside the graph."""

import pytest
import tensorflow as tf

from tfrec_meta.export.inputs import fit_width


@pytest.mark.parametrize(
    "tokens, expected",
    [
        (["a", "b", "c", "d"], ["b", "c", "d"]),
        (["a", "", "b", "", "c", ""], ["b", "", "c"]),  # "" between items counts
        (["", "", "", "a"], ["", "", "a"]),
        (["a", "", "", "", ""], ["a", "", ""]),
        (["", ""], ["", "", ""]),
        ([], ["", "", ""]),
    ],
)
def test_keeps_the_latest_items_of_a_history(tokens, expected):
    row = tf.reshape(tf.constant(tokens, tf.string), [1, -1])
    fitted = fit_width(row, 3, latest=True)
    assert [token.decode() for token in fitted.numpy()[0]] == expected
