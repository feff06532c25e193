"""Toy data on disk, and the outputs of the first nodes, created once per session."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tfx.dsl.components.base import base_beam_executor
from tfx.types import Artifact, artifact_utils, channel_utils, standard_artifacts
from tfx.utils import proto_utils

import tfrec_meta as tm
from tests.pipeline import gate_toys
from tfrec_meta.data import split_leave_last_out
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.features import transform
from tfrec_meta.models import Recommender
from tfrec_meta.pipeline import artifacts, events
from tfrec_meta.pipeline.components import evaluator, histories, preprocessing
from tfrec_meta.pipeline.config import EvaluatorConfig, SplitConfig
from tfrec_meta.pipeline.config_values import as_json
from tfrec_meta.pipeline.configs.data_config import TableConfig
from tfrec_meta.pipeline.gates import ranking_gate

# Runs Beam in this process: the default runner would first try to download another one, and without
# an image TFX would package itself for remote workers, which takes seconds.
BEAM = ("--runner=FnApiRunner", "--sdk_container_image=none")
HISTORY_LENGTH = 20
SPLIT = SplitConfig(history_length=HISTORY_LENGTH, partitions=3)


def fitted_graph(
    made: Mapping[str, Artifact], folder: Path, earlier: Artifact | None = None
) -> Artifact:
    """Writes a Transform graph with nothing but the fitted FeatureSpec, which takes no Beam.

    Tuner and Trainer read no more of it. Transform fits the same spec: see test_preprocessing.
    """
    train = events.read_split(made["examples"].uri, "train")
    data = events.interactions(train, made["catalogue"].uri)
    before = None if earlier is None else transform.spec_of(earlier.uri)
    spec = transform.inferred(data.users, data.items, HISTORY_LENGTH, before)
    if before is not None:
        spec = transform.grown_from(spec, before)
    graph = make_artifact(standard_artifacts.TransformGraph, folder / "transform_graph")
    spec.fit(data).save(Path(graph.uri) / "transform_fn" / "assets")
    return graph


@dataclasses.dataclass(frozen=True)
class ToyTables:
    """Three tables, and their Parquet files."""

    interactions: pa.Table
    users: pa.Table
    items: pa.Table
    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"


def make_artifact(kind: type[Artifact], folder: Path | str) -> Artifact:
    """Returns an artifact without a metadata store, and creates its folder."""
    artifact = kind()
    artifact.uri = str(folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return artifact


def beam_executor(kind: type[base_beam_executor.BaseBeamExecutor]) -> Any:
    """Returns an executor that runs Beam in this process."""
    context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM))
    return kind(context)


def write_examples(tables: Mapping[str, pa.Table] | pa.Table, folder: Path) -> Artifact:
    """Writes Examples like ExampleGen, by split; a single table is the split "all"."""
    from tfrec_meta.pipeline import tables as reading
    from tfrec_meta.pipeline.rows import sources

    if isinstance(tables, pa.Table):
        tables = {"all": tables}
    examples = make_artifact(standard_artifacts.Examples, folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(list(tables))
    for split, table in tables.items():
        path = folder / f"{split}.parquet"
        pq.write_table(table, path)
        name = "interactions" if {"user_id", "item_id"} <= set(table.column_names) else None
        name = name or ("users" if "user_id" in table.column_names else "items")
        source = sources.Source(name, TableConfig(str(path)))
        target = artifact_utils.get_split_uri([examples], split)
        Path(target).mkdir(parents=True)
        units = sources.units_of([path])
        found = reading.with_numbers(
            reading.merge(reading.survey(unit, source) for unit in units), source
        )
        written = reading.merge(reading.write(unit, found, source, target) for unit in units)
        assert not found.errors + written.errors
    return examples


def run_histories(
    inputs: Mapping[str, Artifact],
    folder: Path,
    config: SplitConfig = SPLIT,
    seed: int = 42,
    rules: CleaningRules | None = None,
    feedback: tm.Feedback | None = None,
    bad_rows: str = "drop",
    sessions: str | None = None,
) -> dict[str, Artifact]:
    """Runs Histories; returns its outputs by name."""
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
        {
            "config": as_json(config),
            "clean": as_json(rules or CleaningRules()),
            "feedback": None if feedback is None else as_json(feedback),
            "bad_rows": bad_rows,
            "seed": seed,
            "sessions": sessions,
        },
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
    """Runs Transform on the outputs of Histories; returns its outputs by name."""
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
    """Returns events with ties in time, tastes of two halves of the users, and a device."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, rows)
    # Each half of the users interacts with one half of the items.
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
    """The outputs of the three ExampleGens."""
    folder = tmp_path_factory.mktemp("toy_examples")
    return {
        name: write_examples(getattr(toy_tables, name), folder / name)
        for name in ("interactions", "users", "items")
        if (folder / name).mkdir() is None
    }


@pytest.fixture(scope="session")
def toy_histories(toy_examples, tmp_path_factory) -> dict[str, Artifact]:
    """The outputs of Histories: examples, schema, catalogue, seen."""
    return run_histories(toy_examples, tmp_path_factory.mktemp("toy_histories"))


@pytest.fixture(scope="session")
def toy_transform(toy_histories, tmp_path_factory) -> Artifact:
    """The Transform graph of the toy data, with inferred features, from TFX's Transform."""
    made = run_transform(toy_histories, tmp_path_factory.mktemp("toy_transform"))
    return made["transform_graph"]


@pytest.fixture(scope="session")
def toy_graph(toy_histories, tmp_path_factory) -> Artifact:
    """A Transform graph with the FeatureSpec that is fitted to the toy data."""
    return fitted_graph(toy_histories, tmp_path_factory.mktemp("toy_graph"))


# --- Users of four tastes, for everything that evaluates, probes and pushes ----------------------


@pytest.fixture(scope="session")
def taste_histories(tmp_path_factory) -> dict[str, Artifact]:
    """The outputs of Histories for users of four tastes."""
    folder = tmp_path_factory.mktemp("taste_histories")
    data = gate_toys.tastes_split().data
    inputs = {}
    for name, table in (
        ("interactions", data.events),
        ("users", data.users),
        ("items", data.items),
    ):
        (folder / name).mkdir()
        inputs[name] = write_examples(table, folder / name)
    config = SplitConfig(protocol="leave-last-out", history_length=20, partitions=2)
    return run_histories(inputs, folder / "histories", config)


def model_artifact(model: Recommender, folder: Path, number: int) -> Artifact:
    """Writes a model like the Trainer."""
    artifact = make_artifact(standard_artifacts.Model, folder)
    artifact.id = number
    tm.save(model, folder / "model")
    version = tm.export(model, folder / "export")
    shutil.move(version, folder / "Format-Serving")
    return artifact


@pytest.fixture(scope="session")
def good_model(tmp_path_factory) -> Artifact:
    """A model that learned the tastes."""
    train = split_leave_last_out(gate_toys.tastes_split().data).train
    model = tm.train(train, gate_toys.STRATEGY, progress=False)
    return model_artifact(model, tmp_path_factory.mktemp("good_model"), 7)


@pytest.fixture(scope="session")
def degraded_model(good_model, tmp_path_factory) -> Artifact:
    """The same model with the embeddings of its items shuffled."""
    model = gate_toys.degraded(Path(good_model.uri) / "model")
    return model_artifact(model, tmp_path_factory.mktemp("degraded_model"), 8)


@pytest.fixture(scope="session")
def evaluation(taste_histories, good_model, tmp_path_factory) -> Artifact:
    """The output of the stock Evaluator with this package's EvalConfig and extractors."""
    # Imported after tfrec_meta, which chooses Keras 2 for KerasTuner.
    from tfx import components
    from tfx.components.evaluator import executor as tfma_executor

    component = components.Evaluator(
        examples=channel_utils.as_channel([taste_histories["examples"]]),
        schema=channel_utils.as_channel([taste_histories["schema"]]),
        model=channel_utils.as_channel([good_model]),
        eval_config=evaluator.eval_config(gate_toys.CONFIG),
        example_splits=evaluator.SPLITS,
        module_path=evaluator.MODULE,
    )
    folder = tmp_path_factory.mktemp("evaluation")
    made = make_artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")
    unused = make_artifact(standard_artifacts.ModelBlessing, folder / "blessing")
    properties = dict(component.exec_properties)
    properties["eval_config"] = proto_utils.proto_to_json(evaluator.eval_config(gate_toys.CONFIG))
    beam_executor(tfma_executor.Executor).Do(
        {name: [taste_histories[name]] for name in ("examples", "schema")}
        | {"model": [good_model]},
        {"evaluation": [made], "blessing": [unused]},
        properties,
    )
    return made


def run_ranking_gate(
    histories: Mapping[str, Artifact],
    folder: Path,
    model: Artifact,
    baseline: Artifact | None = None,
    evaluation: Artifact | None = None,
    config: EvaluatorConfig = gate_toys.CONFIG,
    left_out: Artifact | None = None,
) -> dict[str, Artifact]:
    """Runs RankingGate; returns its outputs by name."""
    inputs = {name: [histories[name]] for name in ("examples", "catalogue", "seen")}
    inputs["model"] = [model]
    further = {"baseline_model": baseline, "evaluation": evaluation, "left_out": left_out}
    for name, artifact in further.items():
        inputs[name] = [artifact] if artifact else []
    outputs = {
        "blessing": make_artifact(standard_artifacts.ModelBlessing, folder / "blessing"),
        "verdict": make_artifact(artifacts.BlessingReport, folder / "verdict"),
    }
    ranking_gate.Executor().Do(
        inputs,
        {name: [artifact] for name, artifact in outputs.items()},
        {"config": as_json(config), "seed": 42},
    )
    return outputs


@pytest.fixture(scope="session")
def good_verdict(taste_histories, good_model, tmp_path_factory) -> dict[str, Artifact]:
    """The outputs of RankingGate in a first run, without an earlier model."""
    return run_ranking_gate(taste_histories, tmp_path_factory.mktemp("good_verdict"), good_model)


@pytest.fixture(scope="session")
def evaluated_verdict(
    taste_histories, good_model, evaluation, tmp_path_factory
) -> dict[str, Artifact]:
    """The same with an evaluation of TFMA."""
    folder = tmp_path_factory.mktemp("evaluated_verdict")
    return run_ranking_gate(taste_histories, folder, good_model, evaluation=evaluation)


@pytest.fixture(scope="session")
def degraded_verdict(
    taste_histories, good_model, degraded_model, tmp_path_factory
) -> dict[str, Artifact]:
    """The outputs of RankingGate for a degraded model compared with the good one."""
    folder = tmp_path_factory.mktemp("degraded_verdict")
    return run_ranking_gate(taste_histories, folder, degraded_model, good_model)


def files(artifact: Artifact) -> list[str]:
    """Returns the names of the files of an artifact."""
    return sorted(path.name for path in Path(artifact.uri).iterdir())
