"""Distributed search: one chief suggests trials, and workers in other processes run them."""
