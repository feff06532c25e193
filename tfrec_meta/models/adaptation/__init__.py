"""Learners whose inner loop runs inside the graph, and the networks that they adapt."""
