"""A space, an objective over it and prior studies of it, for the tests of surrogates."""

import keras_tuner
import numpy as np

from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy, normal_scores


def space():
    """Two ranges, a choice, and a hyperparameter that depends on the choice."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", -1.0, 1.0, default=-0.5)
    hp.Float("rate", 1e-4, 1.0, sampling="log", default=1e-3)
    hp.Choice("family", ["flat", "deep"])
    with hp.conditional_scope("family", ["deep"]):
        hp.Int("layers", 1, 4, default=1)
    return hp


def objective(values):
    """Has its maximum of 1 at x=0.4, rate=0.1, "deep" and 3 layers."""
    found = 1.0 - (values["x"] - 0.4) ** 2 - 0.1 * (np.log10(values["rate"]) + 1.0) ** 2
    if values["family"] == "flat":
        return float(found - 0.5)
    return float(found - 0.1 * abs(values["layers"] - 3))


def prior_study(name, seed, *, count=150, noise=0.02, shuffle=False, **about):
    """A study of random points with the objective above, optionally shuffled among the points."""
    encoding, generator = SpaceEncoding(space()), np.random.default_rng(seed)
    codes = encoding.sample(count, generator)
    found = np.array([objective(encoding.values(row)) for row in codes])
    found += noise * generator.standard_normal(count)
    if shuffle:
        generator.shuffle(found)
    return PriorStudy(name, codes, normal_scores(found), **about)


class FormulaMetaSurrogate(MetaSurrogate):
    """A surrogate whose predictions are functions of the values, one for each prior study."""

    def __init__(self, *functions, studies=None):
        self._encoding, self._functions = SpaceEncoding(space()), functions
        sample = self._encoding.sample(300, np.random.default_rng(0))
        values = [self._encoding.values(row) for row in sample]
        raw = np.array([[function(row) for function in functions] for row in values])
        observed = [PriorStudy(str(n), sample, normal_scores(y)) for n, y in enumerate(raw.T)]
        super().__init__(studies or observed, [])
        self._centre, self._spread = raw.mean(axis=0), raw.std(axis=0)

    def predict(self, features):
        found = np.empty((len(features), len(self._functions)))
        for row, (x, rate, flat, _, layers) in enumerate(features):
            values = {
                "x": 2 * x - 1,
                "rate": 10 ** (4 * rate - 4),
                "family": "flat" if flat else "deep",
                "layers": round(1 + 3 * layers),
            }
            found[row] = [function(values) for function in self._functions]
        return (found - self._centre) / self._spread
