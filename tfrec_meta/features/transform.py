"""The FeatureSpec in TensorFlow Transform: the columns that it reads, the function that it runs."""

from __future__ import annotations

# Splits of the Histories examples.
EVENT_SPLITS = ("train", "validation", "test")  # one row an event
TABLE_SPLITS = ("users", "items")  # one row each of the tables, where there are tables

# Columns of the rows of EVENT_SPLITS, as tf.Example: bytes [1], bytes [1], int64 [1] (absent where
# unknown), float [1], bytes [h] (strictly earlier items of the user, oldest first). Further event
# columns, and the user's columns of the users table, stand there by their own names.
USER_ID = "user_id"
ITEM_ID = "item_id"
TIME = "time"
VALUE = "value"
HISTORY = "history"
EVENT_COLUMNS = (USER_ID, ITEM_ID, TIME, VALUE, HISTORY)


def user_column(name: str) -> str:
    """The name of a users table's column in the rows of the split `users`: `user/age`."""
    return f"user/{name}"


def item_column(name: str) -> str:
    """The name of an items table's column in the rows of the split `items`: `item/title`."""
    return f"item/{name}"
