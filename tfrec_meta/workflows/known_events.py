"""What is known of users and items for requests: ids, histories and titles.

Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrec_meta.data import Interactions, user_histories
from tfrec_meta.io.pseudonyms import key_of, pseudonym
from tfrec_meta.workflows.run_settings import complete_settings, read_data


@dataclasses.dataclass(frozen=True)
class KnownEvents:
    """The events that are known when a request is sent, and the tables of their data.

    Args:
        events: the events.
        data: all data, whose items have titles.
        key_env: the environment variable with the key of pseudonyms; None without pseudonyms.
    """

    events: Interactions
    data: Interactions
    key_env: str | None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> KnownEvents:
        """Reads all events that settings describe.

        Args:
            given: settings in the form of `DEFAULTS`, any part.

        Raises:
            ValueError: as `read_data`.
        """
        settings = complete_settings(given)
        data = read_data(settings["data"], settings["seed"], settings["feedback"])
        return cls(data, data, settings["data"]["pseudonyms"])

    def user_id(self, given: str) -> str:
        """Returns the id that the data has for a user: the pseudonym, if it has pseudonyms.

        Raises:
            ValueError: if the key of the pseudonyms is not in the environment.
        """
        name = given.strip()
        return pseudonym(name, key_of(self.key_env)) if self.key_env and name else name

    def history(self, user: str, length: int = 1000) -> list[str]:
        """Returns the latest items of a user, oldest first; [] if there are none."""
        found = user_histories(self.events, [self.user_id(user)], length)[0]
        return [item for item in found if item]

    def titles(self, column: str = "title") -> dict[str, str]:
        """Returns the titles of the items that have one, by item id.

        Args:
            column: of the table of items.
        """
        items = self.data.items
        if items is None or column not in items.column_names:
            return {}
        pairs = zip(items["item_id"].to_pylist(), items[column].to_pylist(), strict=True)
        return {item: str(title) for item, title in pairs if title}
