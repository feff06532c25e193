"""Schemas and DataGate: what stops a run, with which message, and what is accepted."""

import dataclasses
import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfx import types
from tfx.components.example_validator import executor as example_validator
from tfx.orchestration.portable import data_types
from tfx.types import artifact_utils, standard_artifacts
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

from tfrec_meta import __version__
from tfrec_meta.pipeline.artifacts import AcceptedData
from tfrec_meta.pipeline.components.example_gen import NOT_NUMERIC, SPLIT
from tfrec_meta.pipeline.components.schemas import Driver, Schemas, infer, read_schema
from tfrec_meta.pipeline.components.schemas import Executor as SchemasExecutor
from tfrec_meta.pipeline.config_values import from_json
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig
from tfrec_meta.pipeline.gates import data_gate
from tfrec_meta.pipeline.gates.data_gate import DataGate, GateLimits, Problem, read_ids
from tfrec_meta.pipeline.gates.data_gate import Executor as GateExecutor
from tfrec_meta.pipeline.gates.drift import Limits
from tfrec_meta.pipeline.rows.sources import Source, units_of
from tfrec_meta.pipeline.tables import survey, with_numbers, write

USERS = 60
DATA = DataConfig(
    TableConfig("i.csv"), users=TableConfig("u.csv"), items=TableConfig("it.csv"), drift={}
)


def tables(users=USERS):
    """Sixty users of two kinds, each with ten events of six items; the same on every call."""
    ids = [f"u{n}" for n in range(users)]
    events = [
        (user, f"i{(n + k) % 6}", k % 5 + 1, 1000 + n)
        for n, user in enumerate(ids)
        for k in range(10)
    ]
    interactions = pa.table(
        [pa.array(column) for column in zip(*events, strict=True)],
        names=["user_id", "item_id", "value", "time"],
    )
    return {
        "interactions": interactions,
        "users": pa.table(
            {
                "user_id": ids,
                "age": [20 + n % 30 for n in range(users)],
                "sex": ["mf"[n % 2] for n in range(users)],
            }
        ),
        "items": pa.table(
            {
                "item_id": [f"i{n}" for n in range(6)],
                "title": [f"film {n}" for n in range(6)],
                "genres": ["a|b", "a", "b", "c|a", "c", "a"],
            }
        ),
    }


class Run:
    """The nodes from examples to the gate, as a run of the pipeline calls them."""

    def __init__(self, folder: Path, data=None, config=DATA, accepted=None):
        self.folder, self.config = folder, config
        self.accepted = [accepted] if accepted is not None else []
        data = tables() if data is None else data
        self.examples = {name: self._examples(name, table) for name, table in data.items()}
        self.statistics = {name: self._statistics(name) for name in data}

    def _artifact(self, kind, name):
        artifact = kind()
        artifact.uri = str(self.folder / name)
        if kind in (standard_artifacts.Examples, standard_artifacts.ExampleStatistics):
            artifact.split_names = artifact_utils.encode_split_names([SPLIT])
        return artifact

    def _examples(self, name, table):
        """Writes the output of ExampleGen, without Beam."""
        self.folder.mkdir(parents=True, exist_ok=True)
        pa_csv.write_csv(table, self.folder / f"{name}.csv")
        source = Source(name, TableConfig(name, lists={"genres": "|"} if name == "items" else {}))
        artifact = self._artifact(standard_artifacts.Examples, f"{name}/examples")
        folder = Path(artifact.uri, f"Split-{SPLIT}")
        folder.mkdir(parents=True)
        (unit,) = units_of([self.folder / f"{name}.csv"])
        found = with_numbers(survey(unit, source), source)
        assert not found.errors
        write(unit, found, source, str(folder))
        artifact.set_string_custom_property(NOT_NUMERIC, json.dumps(dict(found.not_numeric)))
        return artifact

    def _statistics(self, name):
        """Writes the output of StatisticsGen, without Beam."""
        artifact = self._artifact(standard_artifacts.ExampleStatistics, f"{name}/statistics")
        files = [str(f) for f in Path(self.examples[name].uri, f"Split-{SPLIT}").iterdir()]
        records = list(tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator())
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        if records:
            batch = ExamplesToRecordBatchDecoder().DecodeBatch(records)
            options = tfdv.StatsOptions()
            statistics = stats_impl.generate_statistics_in_memory(batch, options)
        else:
            statistics.datasets.add()
        folder = Path(artifact.uri, f"Split-{SPLIT}")
        folder.mkdir(parents=True)
        (folder / "FeatureStats.pb").write_bytes(statistics.SerializeToString())
        return artifact

    def schemas(self):
        component = Schemas(
            self.config,
            {
                name: types.Channel(type=standard_artifacts.ExampleStatistics)
                for name in DATA.tables
            },
        )
        outputs = {
            name: [self._artifact(standard_artifacts.Schema, f"{name}/schema")]
            for name in self.statistics
        }
        inputs = {f"{name}_statistics": [found] for name, found in self.statistics.items()}
        inputs["accepted"] = self.accepted
        SchemasExecutor().Do(inputs, outputs, component.exec_properties)
        return {name: found for name, (found,) in outputs.items()}

    def gate(self, schemas=None):
        schemas = schemas or self.schemas()
        inputs = {"earlier": self.accepted}
        for name in self.statistics:
            anomalies = self._artifact(standard_artifacts.ExampleAnomalies, f"{name}/anomalies")
            example_validator.Executor().Do(
                {"statistics": [self.statistics[name]], "schema": [schemas[name]]},
                {"anomalies": [anomalies]},
                {},
            )
            for kind, artifact in (
                ("examples", self.examples[name]),
                ("statistics", self.statistics[name]),
                ("schema", schemas[name]),
                ("anomalies", anomalies),
            ):
                inputs[f"{name}_{kind}"] = [artifact]

        def channels(kind):
            return {name: types.Channel(type=kind) for name in self.statistics}

        component = DataGate(
            self.config,
            channels(standard_artifacts.Examples),
            channels(standard_artifacts.ExampleStatistics),
            channels(standard_artifacts.Schema),
            channels(standard_artifacts.ExampleAnomalies),
        )
        accepted = self._artifact(AcceptedData, "accepted")
        GateExecutor().Do(inputs, {"accepted": [accepted]}, component.exec_properties)
        return accepted


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The data that a first run accepted."""
    return Run(tmp_path_factory.mktemp("first")).gate()


def changed(name, **columns):
    """The tables with columns of one of them replaced, or removed by None."""
    data = tables()
    for column, values in columns.items():
        if column in data[name].column_names:
            data[name] = data[name].drop_columns([column])
        if values is not None:
            data[name] = data[name].append_column(column, pa.array(values))
    return data


def refused(run) -> str:
    with pytest.raises(ValueError, match="The data is not accepted") as error:
        run.gate()
    assert not Path(run.folder, "accepted").exists()
    return str(error.value)


def test_a_refusal_names_the_tables_of_its_problems():
    problems = [
        Problem("users", "a:b.c", "the column is missing"),
        Problem("items", None, "no rows"),
        Problem("users", "age", "unexpectedly high value"),
    ]
    lines = data_gate._refusal(problems, [], {}, "curated").splitlines()
    assert lines[1:] == [
        "users.a:b.c: the column is missing",
        "items: no rows",
        "users.age: unexpectedly high value",
        "Fix the data. To accept the change,",
        "edit curated/users.pbtxt, curated/items.pbtxt.",
    ]


def test_the_limits_are_an_execution_property_of_this_version():
    config = dataclasses.replace(DATA, max_drift=0.25, drift={"users.age": 0.5}, schemas="curated")
    required = {
        kind: {"interactions": types.Channel(type=artifact)}
        for kind, artifact in (
            ("examples", standard_artifacts.Examples),
            ("statistics", standard_artifacts.ExampleStatistics),
            ("schemas", standard_artifacts.Schema),
            ("anomalies", standard_artifacts.ExampleAnomalies),
        )
    }
    text = DataGate(config, **required).exec_properties["limits"]
    assert json.loads(text)["version"] == __version__
    schemas = str(Path("curated").absolute())
    expected = GateLimits(Limits(0.25, {"users.age": 0.5}), config.warn_new_ids, schemas)
    assert from_json(GateLimits, text) == expected


def test_a_first_run_infers_schemas_and_warns(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "absl")
    schemas = Run(tmp_path).schemas()
    for name, artifact in schemas.items():
        assert artifact.get_int_custom_property("inferred") == 1
        assert f"The schema of {name} was inferred from this data" in caplog.text
    schema = {
        (name, feature.name): feature
        for name, artifact in schemas.items()
        for feature in read_schema(Path(artifact.uri, "schema.pbtxt")).feature
    }
    for key in (("interactions", "user_id"), ("users", "user_id"), ("items", "item_id")):
        assert schema[key].type == schema_pb2.BYTES
        assert schema[key].presence.min_fraction == 1
        assert (schema[key].value_count.min, schema[key].value_count.max) == (1, 1)
        assert not schema[key].domain
    assert schema["interactions", "value"].type == schema_pb2.FLOAT
    assert schema["interactions", "time"].type == schema_pb2.INT
    # Thirty rows per value make a domain; six titles of six items, or lists, do not.
    assert schema["users", "sex"].domain == "sex"
    assert not schema["items", "title"].domain
    assert not schema["items", "genres"].domain
    assert schema["items", "genres"].value_count.max == 0


def test_reuses_the_accepted_schema_without_inference(tmp_path, first):
    run = Run(tmp_path, changed("users", sex=["x"] * USERS), accepted=first)
    schema = run.schemas()["users"]
    assert schema.get_int_custom_property("inferred") == 0
    before = Path(first.uri, "users", "schema.pbtxt").read_text()
    assert Path(schema.uri, "schema.pbtxt").read_text() == before


def curated_folder(tmp_path, first) -> Path:
    folder = tmp_path / "curated"
    folder.mkdir()
    for name in DATA.tables:
        text = Path(first.uri, name, "schema.pbtxt").read_text()
        (folder / f"{name}.pbtxt").write_text(text.replace('"m"', '"male"'))
    return folder


def with_schemas(folder):
    return DataConfig(DATA.interactions, DATA.users, DATA.items, schemas=str(folder))


def test_curated_schemas_take_precedence_and_their_domains_apply(tmp_path, first):
    config = with_schemas(curated_folder(tmp_path, first))
    text = refused(Run(tmp_path / "run", config=config, accepted=first))
    assert "users.sex: values outside its domain: m (~50%)" in text
    assert f"edit {tmp_path}/curated/users.pbtxt." in text


def test_an_edit_in_the_curated_folder_invalidates_the_cache(tmp_path, first):
    folder = curated_folder(tmp_path, first)
    statistics = {"interactions": types.Channel(type=standard_artifacts.ExampleStatistics)}
    component = Schemas(with_schemas(folder), statistics)

    def digest():
        info = data_types.ExecutionInfo(exec_properties=component.exec_properties)
        return Driver(None).run(info).exec_properties["digest"].string_value

    before = digest()
    assert digest() == before != ""
    (folder / "users.pbtxt").write_text("")
    assert digest() != before


def test_refuses_an_incomplete_curated_folder(tmp_path, first):
    folder = curated_folder(tmp_path, first)
    run = Run(tmp_path / "run", config=with_schemas(folder))
    (folder / "items.pbtxt").write_text('feature { name: "title" }')
    with pytest.raises(ValueError, match=r"items\.pbtxt has no `item_id`"):
        run.schemas()
    (folder / "items.pbtxt").write_text("no schema")
    with pytest.raises(ValueError, match=r"items\.pbtxt is not a schema: .* Fix the file"):
        run.schemas()
    (folder / "items.pbtxt").unlink()
    with pytest.raises(FileNotFoundError, match=r"curated' has no items\.pbtxt; every table"):
        run.schemas()
    run.config = with_schemas(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere' is not a folder"):
        run.schemas()


def test_refuses_a_configured_column_that_the_first_data_lacks(tmp_path):
    found = Run(tmp_path).statistics["interactions"]
    path = Path(found.uri, f"Split-{SPLIT}", "FeatureStats.pb")
    with pytest.raises(ValueError, match=r"interactions\.position: the data has no column `rank`"):
        infer("interactions", [tfdv.load_stats_binary(str(path))], {"position": "rank"}, [])


def test_accepted_data_has_schema_statistics_and_ids(first):
    folder = Path(first.uri)
    for name in DATA.tables:
        assert (folder / name / "schema.pbtxt").is_file()
        assert tfdv.load_stats_binary(str(folder / name / "FeatureStats.pb")).datasets
    assert sorted(read_ids(folder, "users").to_pylist()) == sorted(f"u{n}" for n in range(USERS))
    assert sorted(read_ids(folder, "items").to_pylist()) == [f"i{n}" for n in range(6)]
    assert first.get_int_custom_property("interactions_rows") == 10 * USERS
    assert not first.has_custom_property("new_users")  # nothing to compare with


def test_names_the_row_of_a_cell_of_a_wrong_type(tmp_path, first):
    ages = ["40"] * USERS
    ages[6::3] = ["abc"] * len(ages[6::3])  # too many for mistakes
    text = refused(Run(tmp_path, changed("users", age=ages), accepted=first))
    cell = f"{tmp_path}/users.csv, row 7 (line 8): 'abc'"
    assert f"users.age: expected FLOAT, got BYTES ({cell})" in text
    assert "edit users there, and set data.schemas to that folder" in text
    assert f"{tmp_path}/users/schema/schema.pbtxt as users.pbtxt" in text


def test_names_a_value_outside_a_closed_domain(tmp_path, first):
    sexes = ["m", "f"] * (USERS // 2 - 1) + ["x", "x"]
    text = refused(Run(tmp_path, changed("users", sex=sexes), accepted=first))
    assert "users.sex: values outside its domain: x (~3%)" in text


def test_lists_every_problem(tmp_path, first):
    data = changed("users", age=None, height=[1.8] * USERS)
    data["items"] = data["items"].drop_columns(["title"])
    text = refused(Run(tmp_path, data, accepted=first))
    assert "users.age: the column is missing, or empty in all rows" in text
    assert "users.height: a new column that the schema does not have" in text
    assert "items.title: the column is missing" in text
    assert "edit users, items there" in text


def test_names_an_empty_table(tmp_path, first):
    data = tables()
    data["users"] = data["users"].slice(0, 0)
    assert "\nusers: no rows\n" in refused(Run(tmp_path, data, accepted=first))


def test_names_drift_above_its_limit_and_how_to_accept_it(tmp_path, first):
    data = changed("users", age=[20 + n % 30 + 40 for n in range(USERS)])
    text = refused(Run(tmp_path / "a", data, accepted=first))
    assert "users.age: drift, Jensen-Shannon divergence against the last accepted data is" in text
    assert "above 0.3" in text
    limits = json.loads(text.partition("data.drift=")[2].partition(" for this run")[0])
    assert list(limits) == ["users.age"]
    config = DataConfig(DATA.interactions, DATA.users, DATA.items, drift=limits)
    accepted = Run(tmp_path / "b", data, config, first).gate()
    report = json.loads(Path(accepted.uri, "anomalies.json").read_text())
    (age,) = (drift for drift in report["drift"] if drift["feature"] == "users.age")
    assert 0.3 < age["value"] <= age["limit"] == limits["users.age"]


def test_measures_the_drift_of_categories_by_their_largest_change(tmp_path, first):
    sexes = ["m"] * (USERS * 9 // 10) + ["f"] * (USERS // 10)
    text = refused(Run(tmp_path, changed("users", sex=sexes), accepted=first))
    # Half of the users were "m"; now nine in ten.
    line = "L-infinity of the shares against the last accepted data is 0.400, above 0.3"
    assert f"users.sex: drift, {line}" in text


def test_new_times_and_new_ids_are_not_anomalies(tmp_path, first, caplog):
    caplog.set_level(logging.WARNING, "absl")
    data = tables()
    events = data["interactions"]
    users = [f"u{n // 10 + USERS // 4}" for n in range(10 * USERS)]  # a quarter is new
    events = events.set_column(0, "user_id", pa.array(users))
    events = events.set_column(3, "time", pa.array([9999 + n for n in range(10 * USERS)]))
    data["interactions"] = events
    accepted = Run(tmp_path / "a", data, accepted=first).gate()
    assert accepted.get_float_custom_property("new_users") == 0.25
    assert accepted.get_float_custom_property("new_items") == 0.0
    assert "of the events have new" not in caplog.text
    # Accepted ids stay known, in their order.
    ids = read_ids(Path(accepted.uri), "users").to_pylist()
    assert ids[:USERS] == read_ids(Path(first.uri), "users").to_pylist()
    assert set(ids[USERS:]) == {f"u{n}" for n in range(USERS, USERS + USERS // 4)}
    config = DataConfig(DATA.interactions, DATA.users, DATA.items, warn_new_ids=0.2)
    Run(tmp_path / "b", data, config, first).gate()
    assert "25.0 % of the events have new users" in caplog.text


def test_compares_the_splits_of_one_artifact(tmp_path, first):
    run = Run(tmp_path / "a")
    other = Run(tmp_path / "b", changed("users", age=[70 + n % 30 for n in range(USERS)]))
    Path(other.statistics["users"].uri, f"Split-{SPLIT}").rename(
        Path(run.statistics["users"].uri, "Split-late")
    )
    run.statistics["users"].split_names = artifact_utils.encode_split_names([SPLIT, "late"])
    schemas = Run(tmp_path / "c").schemas()
    with pytest.raises(
        ValueError, match=r"users\.age: drift, .* against the split all, split late"
    ):
        run.gate(schemas)


def test_users_and_items_are_optional(tmp_path):
    data = {"interactions": tables()["interactions"]}
    run = Run(tmp_path, data, DataConfig(TableConfig("i.csv")))
    accepted = run.gate()
    assert not Path(accepted.uri, "users", "schema.pbtxt").exists()
    assert len(read_ids(Path(accepted.uri), "users")) == USERS
