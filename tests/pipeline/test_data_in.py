"""From files to accepted data, with TFX's launcher node by node."""

from pathlib import Path

import pytest
import tfx.v1 as tfx
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import compiler
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils

from tfrec_meta.pipeline.artifacts import AcceptedData
from tfrec_meta.pipeline.components.example_gen import ExampleGen
from tfrec_meta.pipeline.components.resolvers import LatestFromOtherData
from tfrec_meta.pipeline.components.schemas import Schemas
from tfrec_meta.pipeline.configs.beam_config import IN_PROCESS
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig
from tfrec_meta.pipeline.gates.data_gate import DataGate


class DataIn:
    """The first half of the pipeline, with interactions only."""

    def __init__(self, root: Path, **settings):
        self.root, self.settings, self.runs, self.curated = root, settings, 0, None
        path = str(root / "metadata.db")
        self.connection = metadata.sqlite_metadata_connection_config(path)

    def span(self, number, values, file="log.csv"):
        folder = self.root / f"span-{number}"
        folder.mkdir(exist_ok=True)
        lines = [f"u{n},i{n % 7},{value}" for n, value in enumerate(values)]
        (folder / file).write_text("\n".join(["user_id,item_id,value", *lines]))

    def _pipeline(self):
        config = DataConfig(
            TableConfig(str(self.root / "span-{SPAN}" / "*.csv"), **self.settings),
            schemas=self.curated,
        )
        examples = ExampleGen("interactions", config).with_id("InteractionsGen")
        data = {"interactions": examples.outputs["examples"]}
        stats = tfx.components.StatisticsGen(examples=data["interactions"])
        statistics = {"interactions": stats.outputs["statistics"]}
        last = tfx.dsl.Resolver(
            strategy_class=LatestFromOtherData,
            config={"candidate": "accepted"},
            current=statistics["interactions"],
            accepted=tfx.dsl.Channel(type=AcceptedData),
        ).with_id("LastAccepted")
        accepted = last.outputs["accepted"]
        schemas = Schemas(config, statistics, accepted)
        schema = {"interactions": schemas.outputs["interactions"]}
        validator = tfx.components.ExampleValidator(
            statistics=statistics["interactions"], schema=schema["interactions"]
        )
        anomalies = {"interactions": validator.outputs["anomalies"]}
        gate = DataGate(config, data, statistics, schema, anomalies, accepted)
        return tfx.dsl.Pipeline(
            pipeline_name="data-in",
            pipeline_root=str(self.root / "artifacts"),
            components=[examples, stats, last, schemas, validator, gate],
            metadata_connection_config=self.connection,
            enable_cache=True,
            beam_pipeline_args=list(IN_PROCESS),
        )

    def run(self, nodes: int | None = None) -> list[str]:
        """Runs it, or its first nodes; returns those that did not come from the cache."""
        self.runs += 1
        ir = compiler.Compiler().compile(self._pipeline())
        run_id = {"pipeline-run-id": f"run-{self.runs}"}
        runtime_parameter_utils.substitute_runtime_parameter(ir, run_id)
        deployment = runner_utils.extract_local_deployment_config(ir)
        worked = []
        for node in ir.nodes[:nodes]:
            node_id = node.pipeline_node.node_info.id
            info = launcher.Launcher(
                pipeline_node=node.pipeline_node,
                mlmd_connection=metadata.Metadata(self.connection),
                pipeline_info=ir.pipeline_info,
                pipeline_runtime_spec=ir.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
            ).launch()
            assert info is not None
            with metadata.Metadata(self.connection) as handle:
                (execution,) = handle.store.get_executions_by_id([info.execution_id])
            if execution.last_known_state != metadata_store_pb2.Execution.CACHED:
                worked.append(node_id)
        return worked

    def accepted(self) -> list[Path]:
        with metadata.Metadata(self.connection) as handle:
            found = handle.store.get_artifacts_by_type("TfrecMetaAcceptedData")
        return [Path(artifact.uri) for artifact in found]

    def rows(self) -> list[int]:
        """Returns the numbers of rows that InteractionsGen has written, in the order of runs."""
        with metadata.Metadata(self.connection) as handle:
            found = handle.store.get_artifacts_by_type("Examples")
        return [artifact.custom_properties["rows"].int_value for artifact in found]


@pytest.mark.pipeline
def test_increments_come_from_the_cache_until_a_file_of_the_window_changes(tmp_path):
    data = DataIn(tmp_path, span="increment", window=2)
    data.span(1, [n % 5 + 1 for n in range(50)])
    data.span(2, [n % 5 + 1 for n in range(60)])
    assert data.run(1) == ["InteractionsGen"]
    assert data.run(1) == []
    data.span(1, [1, 2, 3, 4, 5], "late.csv")
    assert data.run(1) == ["InteractionsGen"]
    data.span(3, [n % 5 + 1 for n in range(70)])
    assert data.run(1) == ["InteractionsGen"]
    assert data.rows() == [110, 115, 130]


@pytest.mark.pipeline
def test_from_files_to_accepted_data(tmp_path):
    data = DataIn(tmp_path)
    data.span(1, [n % 5 + 1 for n in range(50)])
    assert data.run()[-1] == "DataGate"
    assert data.run() == ["LastAccepted"]  # the same data: only a resolver has no cache

    data.span(2, ["4", "abc"])
    with pytest.raises(Exception, match=r"log\.csv, row 2 .*column `value`: 'abc' is not a number"):
        data.run()
    assert len(data.accepted()) == 1  # a stopped run has no visible output
    assert [path.name for path in data.accepted()[0].parent.iterdir()] == [data.accepted()[0].name]

    (tmp_path / "span-2" / "log.csv").unlink()
    (tmp_path / "span-2").rmdir()
    assert data.run() == ["LastAccepted"]

    # Curated schemas apply as soon as they exist, and after each edit.
    curated = tmp_path / "curated"
    curated.mkdir()
    text = (data.accepted()[0] / "interactions" / "schema.pbtxt").read_text()
    (curated / "interactions.pbtxt").write_text(text)
    data.curated = str(curated)
    assert "Schemas" in data.run()
    assert data.run() == ["LastAccepted"]
    (curated / "interactions.pbtxt").write_text(text.replace("type: FLOAT", "type: INT"))
    with pytest.raises(Exception, match=r"interactions\.value: expected INT, got FLOAT"):
        data.run()
