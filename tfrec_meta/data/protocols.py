"""Split protocols as enums: how events are held out, stored by value and never as a sentence."""

from __future__ import annotations

from enum import StrEnum


class ValidationProtocol(StrEnum):
    """How the validation events of a study were held out.

    Metrics of two studies are comparable only if they agree in it. A random share of each item's
    events and one of each user's events give metrics of the same kind, so both are `RANDOM`.
    """

    RANDOM = "random"
    TIME = "time"
    LEAVE_LAST_OUT = "leave-last-out"
    COLD_USERS = "cold-users"
    COLD_ITEMS = "cold-items"
    DOMAIN = "domain"
    # The caller passed the validation events. How they were chosen is not recorded, so such
    # studies are compared with each other only.
    GIVEN = "given"
    # An imported study, whose files do not record it.
    UNKNOWN = "unknown"


class SplitProtocol(StrEnum):
    """How a `Split` divides events; the values are also the names that commands and configs use."""

    ITEM = "item"
    USER = "user"
    TIME = "time"
    LEAVE_LAST_OUT = "leave-last-out"
    COLD_USERS = "cold-users"
    COLD_ITEMS = "cold-items"
    DOMAIN = "domain"
    GIVEN = "given"  # the caller chose the rows of each part

    @property
    def is_random(self) -> bool:
        """Whether each part is a random share of the users' events.

        Then test events lie between the training events in time.
        """
        return self in (SplitProtocol.ITEM, SplitProtocol.USER)

    @property
    def validation(self) -> ValidationProtocol:
        """The protocol of a study whose validation events are a part of this split."""
        return ValidationProtocol.RANDOM if self.is_random else ValidationProtocol(self.value)
