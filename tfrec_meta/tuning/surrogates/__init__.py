"""Surrogates: models that predict the objective of a point from trials and prior studies."""
