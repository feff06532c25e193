"""Training rows: what one row of a batch is, and the batches of each epoch.

`EventRows` has one event per row, `WindowRows` one window of a user's events, and `StreamedRows`
has either kind for more events than fit into memory.
"""
