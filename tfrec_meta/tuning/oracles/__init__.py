"""Oracles: they suggest the hyperparameters of trials, and train nothing.

`registry` builds an oracle by name; `meta_bayesian` and `meta_hyperband` hold the oracles of this
package, which learn from prior studies.
"""
