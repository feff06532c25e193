"""The kinds of data about people, and the tables in which columns are looked at."""

from __future__ import annotations

import enum
from typing import Literal

Table = Literal["events", "users", "items"]


class PersonalData(enum.StrEnum):
    """What the values of a column look like."""

    EMAIL = "e-mail addresses"
    PHONE = "phone numbers"
    NAME = "names of people"
    ADDRESS = "postal addresses"
    BIRTH_DATE = "birth dates"
    IP = "IP addresses"
    ACCOUNT = "card or account numbers"
    IDENTITY = "identity numbers"
