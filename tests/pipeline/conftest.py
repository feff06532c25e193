"""Toy data on disk, and what the pipeline's first nodes make of it, each made once a session."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tfx.dsl.components.base import base_beam_executor
from tfx.types import Artifact, artifact_utils, standard_artifacts

from tfrec_meta.pipeline import artifacts
from tfrec_meta.pipeline.components import histories, preprocessing
from tfrec_meta.pipeline.config import SplitConfig, TableConfig
from tfrec_meta.pipeline.config_values import as_json

# In this process: the default runner would first try to fetch another one from the net, and without
# an image TFX would package itself for workers elsewhere, which takes seconds.
BEAM = ("--runner=FnApiRunner", "--sdk_container_image=none")
HISTORY_LENGTH = 20
SPLIT = SplitConfig(history_length=HISTORY_LENGTH, partitions=3)


@dataclasses.dataclass(frozen=True)
class ToyTables:
    """Three tables, and the Parquet files that hold them."""

    interactions: pa.Table
    users: pa.Table
    items: pa.Table
    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"


def make_artifact(kind: type[Artifact], folder: Path | str) -> Artifact:
    """An artifact without a metadata store, at a folder that is made."""
    artifact = kind()
    artifact.uri = str(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return artifact


def beam_executor(kind: type[base_beam_executor.BaseBeamExecutor]) -> Any:
    """An executor that runs Beam in this process."""
    context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM))
    return kind(context)


def write_examples(tables: Mapping[str, pa.Table] | pa.Table, folder: Path) -> Artifact:
    """Examples as ExampleGen makes them, split by split; a single table is the split "all"."""
    from tfrec_meta.pipeline import tables as reading

    if isinstance(tables, pa.Table):
        tables = {"all": tables}
    examples = make_artifact(standard_artifacts.Examples, folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(tables))
    for split, table in tables.items():
        path = folder / f"{split}.parquet"
        pq.write_table(table, path)
        name = "interactions" if {"user_id", "item_id"} <= set(table.column_names) else None
        name = name or ("users" if "user_id" in table.column_names else "items")
        source = reading.Source(name, TableConfig(str(path)))
        target = artifact_utils.get_split_uri([examples], split)
        Path(target).mkdir(parents=True)
        units = reading.units_of([path])
        found = reading.merge(reading.survey(unit, source) for unit in units)
        written = reading.merge(reading.write(unit, found, source, target) for unit in units)
        assert not found.errors + written.errors
    return examples


def run_histories(
    inputs: Mapping[str, Artifact], folder: Path, config: SplitConfig = SPLIT, seed: int = 42
) -> dict[str, Artifact]:
    """The outputs of Histories, by name."""
    kinds = {
        "examples": standard_artifacts.Examples,
        "schema": standard_artifacts.Schema,
        "catalogue": artifacts.CatalogueTables,
        "seen": artifacts.SeenItems,
    }
    outputs = {name: make_artifact(kind, folder / name) for name, kind in kinds.items()}
    beam_executor(histories.Executor).Do(
        {name: [artifact] for name, artifact in inputs.items()},
        {name: [artifact] for name, artifact in outputs.items()},
        {"config": as_json(config), "seed": seed},
    )
    return outputs


def run_transform(
    made: Mapping[str, Artifact],
    folder: Path,
    *,
    features: Mapping[str, Any] | None = None,
    earlier: Artifact | None = None,
    history_length: int = HISTORY_LENGTH,
    materialize: bool = False,
) -> dict[str, Artifact]:
    """The outputs of Transform on those of Histories, by name."""
    from tfx.types import channel_utils

    inputs = {name: made[name] for name in ("examples", "schema", "catalogue")}
    component = preprocessing.Transform(
        **{name: channel_utils.as_channel([artifact]) for name, artifact in inputs.items()},
        features=features,
        history_length=history_length,
        materialize=materialize,
    )
    if earlier is not None:
        inputs["earlier"] = earlier
    outputs = {
        "transform_graph": make_artifact(
            standard_artifacts.TransformGraph, folder / "transform_graph"
        )
    }
    if materialize:
        outputs["transformed_examples"] = make_artifact(
            standard_artifacts.Examples, folder / "transformed_examples"
        )
    beam_executor(preprocessing.Executor).Do(
        {name: [artifact] for name, artifact in inputs.items()},
        {name: [artifact] for name, artifact in outputs.items()},
        {k: v for k, v in component.exec_properties.items() if v is not None},
    )
    return outputs


def toy_interactions(rows: int, users: int, items: int, seed: int = 0) -> pa.Table:
    """Events with ties in time, an item liked by a half of the users, and a device."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, rows)
    # Users of one half like the items of one half.
    item = (rng.zipf(1.3, rows) * 2 + user % 2) % items
    return pa.table(
        {
            "user_id": [f"u{i}" for i in user],
            "item_id": [f"i{i}" for i in item],
            "time": 1_700_000_000 + rng.integers(0, rows // 2, rows) * 60,
            "value": rng.integers(1, 6, rows).astype(np.float32),
            "device": rng.choice(["phone", "tv", "web"], rows),
        }
    )


def toy_users(users: int, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    age = pa.array(rng.integers(18, 70, users), mask=rng.random(users) < 0.1)
    gender = rng.choice(["F", "M"], users)
    return pa.table({"user_id": [f"u{i}" for i in range(users)], "age": age, "gender": gender})


def toy_items(items: int, seed: int = 2) -> pa.Table:
    rng = np.random.default_rng(seed)
    genres = ["Action", "Comedy", "Drama", "Horror"]
    words = ["Night", "Love", "Return", "Last", "City", "Dog", "Summer"]
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "title": [f"The {' '.join(rng.choice(words, 2))} {i}" for i in range(items)],
            "genres": [
                sorted(rng.choice(genres, rng.integers(1, 4), replace=False)) for _ in range(items)
            ],
            "year": pa.array(rng.integers(1950, 2020, items)),
        }
    )


@pytest.fixture(scope="session")
def toy_tables(tmp_path_factory) -> ToyTables:
    """60 users, 80 items, 1,500 events, as tables and as Parquet files."""
    tables = {
        "interactions": toy_interactions(1_500, 60, 80),
        "users": toy_users(60),
        "items": toy_items(80),
    }
    toy = ToyTables(**tables, folder=tmp_path_factory.mktemp("toy_tables"))
    for name, table in tables.items():
        pq.write_table(table, toy.path(name))
    return toy


@pytest.fixture(scope="session")
def toy_examples(toy_tables, tmp_path_factory) -> dict[str, Artifact]:
    """What the three ExampleGens give."""
    folder = tmp_path_factory.mktemp("toy_examples")
    return {
        name: write_examples(getattr(toy_tables, name), folder / name)
        for name in ("interactions", "users", "items")
        if (folder / name).mkdir() is None
    }


@pytest.fixture(scope="session")
def toy_histories(toy_examples, tmp_path_factory) -> dict[str, Artifact]:
    """What Histories gives: examples, schema, catalogue, seen."""
    return run_histories(toy_examples, tmp_path_factory.mktemp("toy_histories"))


@pytest.fixture(scope="session")
def toy_transform(toy_histories, tmp_path_factory) -> Artifact:
    """The Transform graph of the toy data, its features inferred."""
    made = run_transform(toy_histories, tmp_path_factory.mktemp("toy_transform"))
    return made["transform_graph"]
