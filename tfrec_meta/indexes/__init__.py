"""Indexes find the best items of a score matrix inside the graph, with core TensorFlow ops only."""
