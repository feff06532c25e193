"""Closed-form solutions of linear models, which several families use."""
