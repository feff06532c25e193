"""Shows a search: a live table on a terminal, and TensorBoard's HParams."""
