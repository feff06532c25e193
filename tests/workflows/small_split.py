"""A split that is small enough to compute results by hand."""

import numpy as np

import tfrec_meta as tm

# Popularity in train: a 3, b 2, c 1, d 1. The test items of u are b and d, that of v is c; the test
# item of w, e, is not in the catalogue.
DATA = tm.Interactions.from_arrays(
    ["u", "v", "w", "v", "w", "x", "x", "u", "u", "v", "w"],
    ["a", "a", "a", "b", "b", "c", "d", "b", "d", "c", "e"],
    time=range(11),
)
SPLIT = tm.Split(DATA, np.arange(7), np.array([], np.int64), np.arange(7, 11), "given", None)
