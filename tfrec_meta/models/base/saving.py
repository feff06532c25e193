"""Saved models: the folder that a model is written to and read from.

The folder holds `model.json` (format, family, config), `feature_spec/`, `weights.npz` and, if the
training data had an items table, `items.parquet`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfrec_meta.data import PersonalColumn
from tfrec_meta.evaluation.judged import EventSummary
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.damage import read_json
from tfrec_meta.io.records import create

FORMAT = 2
"""The format of the folder; raised when older folders can no longer be read."""
_RECORD = "model.json"


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """The content of a saved model.

    Args:
        family: the name of the family.
        config: the fields of its config, as plain values.
        spec: the fitted FeatureSpec.
        state: all learned arrays by name.
        items: the items table of the training data, if there was one.
        personal_columns: the columns of the training data that looked personal.
        trained_on: the size of the training data, if it is known.
    """

    family: str
    config: Mapping[str, Any]
    spec: FeatureSpec
    state: Mapping[str, np.ndarray]
    items: pa.Table | None = None
    personal_columns: Sequence[PersonalColumn] = ()
    trained_on: EventSummary | None = None

    def write(self, folder: Path) -> None:
        """Writes the content into an empty folder."""
        record = {
            "format": FORMAT,
            "family": self.family,
            "config": dict(self.config),
            "personal_columns": [dataclasses.asdict(column) for column in self.personal_columns],
            "trained_on": self.trained_on and dataclasses.asdict(self.trained_on),
        }
        (folder / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.spec.save(folder / "feature_spec")
        np.savez(folder / "weights.npz", **self.state)  # type: ignore[arg-type]
        if self.items is not None:
            pq.write_table(self.items, folder / "items.parquet")

    @classmethod
    def read(cls, folder: Path, record: Mapping[str, Any]) -> SavedModel:
        """Reads the content of a folder.

        Args:
            folder: of a saved model.
            record: its `model.json`, as `read_record` returns it.

        Raises:
            ValueError: if an array holds values that are not finite.
            OSError, LookupError: if a file is missing or damaged.
        """
        items = folder / "items.parquet"
        trained_on = record.get("trained_on")
        with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
            state = {name: arrays[name] for name in arrays.files}
        broken = [name for name, array in state.items() if not np.isfinite(array).all()]
        if broken:
            raise ValueError(f"weights.npz has values that are not numbers in {broken}")
        return cls(
            record["family"],
            record["config"],
            FeatureSpec.load(folder / "feature_spec"),
            state,
            pq.read_table(items) if items.exists() else None,
            # A model that version 0.2 saved has no list.
            [PersonalColumn.from_dict(one) for one in record.get("personal_columns", ())],
            create(EventSummary, trained_on) if trained_on else None,
        )


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the `model.json` of a saved model.

    Returns:
        The record, with "format", "family" and "config".

    Raises:
        FileNotFoundError: if the folder holds no saved model.
        ValueError: if the file is damaged, or the format is that of another version.
    """
    path = folder / _RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no saved model (no model.json). Train one first.")
    record = read_json(path, "Save the model again", ("format", "family", "config"))
    if record["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {record['format']!r}, but this version of tfrec-meta reads format "
            f"{FORMAT}. Train and save the model again, or install the version that saved it."
        )
    return record
