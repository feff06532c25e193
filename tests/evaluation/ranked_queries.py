"""Evaluations whose ranks are given, so that results are computed by hand."""

import numpy as np
import scipy.sparse as sp

from tfrec_meta.evaluation import full_catalogue

RELEVANT = sp.csr_array(np.eye(4, 5))
SEEN = sp.csr_array((4, 5))


def evaluation(*ranks):
    """Query q has its relevant item q at a given rank of five."""

    def scores(rows):
        block = np.zeros((len(rows), 5), np.float32)
        for place, row in enumerate(rows):
            others = iter(n for n in range(1, 6) if n != ranks[row])
            block[place] = [-ranks[row] if c == row else -next(others) for c in range(5)]
        return block

    return full_catalogue(
        scores, RELEVANT, SEEN, k=2, known=np.array([True, True, False, False]), resamples=50
    )
