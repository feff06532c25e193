"""Resolvers of earlier artifacts, in a real metadata store."""

from pathlib import Path

import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.compiler import compiler
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.components.common import resolver
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.types import component_spec, standard_artifacts

from tfrec_meta.pipeline.artifacts import SPLIT_IDENTITY, AcceptedData
from tfrec_meta.pipeline.components.resolvers import (
    LastPushed,
    LatestFromOtherData,
    LatestOrNothing,
)

Event = metadata_store_pb2.Event


class Lineage:
    """A metadata store in memory, with artifacts and the executions that made them."""

    def __init__(self):
        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = ml_metadata.MetadataStore(config)
        kind = metadata_store_pb2.ExecutionType(name="Gate")
        self._execution_type = self.store.put_execution_type(kind)

    def artifact(
        self, kind=AcceptedData, state=metadata_store_pb2.Artifact.LIVE, split_identity=None
    ):
        artifact = kind()
        if split_identity:
            artifact.set_string_custom_property(SPLIT_IDENTITY, split_identity)
        mlmd_type = artifact.artifact_type
        mlmd_type.id = self.store.put_artifact_type(mlmd_type)
        artifact.type_id = mlmd_type.id
        artifact.mlmd_artifact.state = state
        (artifact.id,) = self.store.put_artifacts([artifact.mlmd_artifact])
        return artifact

    def made(self, output, *inputs, event=Event.OUTPUT):
        execution = metadata_store_pb2.Execution(type_id=self._execution_type)
        (number,) = self.store.put_executions([execution])
        events = [Event(artifact_id=i.id, execution_id=number, type=Event.INPUT) for i in inputs]
        events.append(Event(artifact_id=output.id, execution_id=number, type=event))
        self.store.put_events(events)
        return output

    def resolve(self, accepted, **current):
        inputs = {key: [artifact] for key, artifact in current.items()}
        strategy = LatestFromOtherData("accepted")
        found = strategy.resolve_artifacts(self.store, {**inputs, "accepted": accepted})
        assert {key: found[key] for key in inputs} == inputs
        return [artifact.id for artifact in found["accepted"]]


@pytest.fixture
def lineage():
    return Lineage()


def statistics(lineage):
    return lineage.artifact(standard_artifacts.ExampleStatistics)


def test_returns_the_newest_artifact_of_other_data(lineage):
    first, second, third = (statistics(lineage) for _ in range(3))
    one = lineage.made(lineage.artifact(), first)
    two = lineage.made(lineage.artifact(), second, one)
    assert lineage.resolve([one, two], current=third) == [two.id]
    assert lineage.resolve([one, two], current=second) == [one.id]
    # `two` was compared with `one`, but not made from the first data.
    assert lineage.resolve([one, two], current=first) == [two.id]
    assert lineage.resolve([one], current=first) == []
    assert lineage.resolve([], current=first) == []


def rows(lineage, split="leave-last-out"):
    """Examples as Histories makes them."""
    return lineage.artifact(standard_artifacts.Examples, split_identity=split)


def model_of(lineage, examples):
    return lineage.made(lineage.artifact(standard_artifacts.Model), examples)


def last_pushed(lineage, models, pushes, examples, **options):
    """Returns the ids of the found model, and of the one that is left out."""
    inputs = {"examples": [examples], "model": models, "pushed_model": pushes, "left_out": models}
    found = LastPushed(**options).resolve_artifacts(lineage.store, inputs)
    assert found["examples"] == [examples]
    assert len(found["pushed_model"]) == len(found["model"])
    return [[artifact.id for artifact in found[key]] for key in ("model", "left_out")]


def push(lineage, model, pushed=1):
    artifact = lineage.artifact(standard_artifacts.PushedModel)
    artifact.set_int_custom_property("pushed", pushed)
    return lineage.made(artifact, model)


def test_returns_the_last_pushed_model_even_if_it_is_not_the_newest(lineage):
    today = rows(lineage)
    first, second, third = models = [model_of(lineage, today) for _ in range(3)]
    pushes = [push(lineage, first), push(lineage, second), push(lineage, third, pushed=0)]
    assert last_pushed(lineage, models, pushes, today) == [[second.id], []]  # the third was refused
    again = [*pushes, push(lineage, first)]
    assert last_pushed(lineage, models, again, today) == [[first.id], []]
    assert last_pushed(lineage, models, pushes[2:], today) == [[], []]
    assert last_pushed(lineage, [], [], today) == [[], []]


def test_a_warm_start_uses_the_last_pushed_model_of_other_data(lineage):
    spans = [rows(lineage) for _ in range(3)]
    models = [model_of(lineage, span) for span in spans]
    pushes = [push(lineage, model, n != 1) for n, model in enumerate(models)]

    def base(models, pushes, examples):
        return last_pushed(lineage, models, pushes, examples, other_data=True)

    assert base(models, pushes, rows(lineage)) == [[models[2].id], []]
    assert base(models, pushes, spans[2]) == [[models[0].id], []]
    assert base(models[:1], pushes[:1], spans[0]) == [[], []]


def test_leaves_out_a_model_of_another_split_and_logs_it(lineage, caplog):
    by_time, last_out = rows(lineage, "time, train 0.8, validation 0.1"), rows(lineage)
    older, newer = models = [model_of(lineage, by_time), model_of(lineage, last_out)]
    pushes = [push(lineage, model) for model in models]
    assert last_pushed(lineage, models, pushes, last_out) == [[newer.id], []]
    assert last_pushed(lineage, models, pushes, by_time) == [[older.id], [newer.id]]
    by_less = rows(lineage, "time, train 0.7, validation 0.1")
    assert last_pushed(lineage, models, pushes, by_less) == [[], [newer.id]]
    assert "No warm start" not in caplog.text
    assert last_pushed(lineage, models, pushes, by_less, other_data=True) == [[], [newer.id]]
    assert (
        "No warm start: the model that was pushed last was trained on another split" in caplog.text
    )


def test_leaves_out_a_model_of_an_unknown_split(lineage):
    model = model_of(lineage, lineage.artifact(standard_artifacts.Examples))
    assert last_pushed(lineage, [model], [push(lineage, model)], rows(lineage)) == [[], [model.id]]


def test_an_artifact_of_one_unchanged_table_is_earlier_state_for_the_other(lineage):
    events, items, new_items = (statistics(lineage) for _ in range(3))
    one = lineage.made(lineage.artifact(), events, items)
    assert lineage.resolve([one], current=events, items=new_items) == [one.id]
    assert lineage.resolve([one], current=events, items=items) == []


def test_a_resolver_does_not_count_as_the_maker_of_an_artifact(lineage):
    first, second = statistics(lineage), statistics(lineage)
    one = lineage.made(lineage.artifact(), first)
    lineage.made(one, second, event=Event.INTERNAL_OUTPUT)
    assert lineage.resolve([one], current=second) == [one.id]


def test_ignores_deleted_artifacts(lineage):
    deleted = metadata_store_pb2.Artifact.DELETED
    one, two = lineage.artifact(), lineage.artifact(state=deleted)
    assert lineage.resolve([one, two], current=statistics(lineage)) == [one.id]


def test_refuses_a_candidate_that_is_not_an_input(lineage):
    with pytest.raises(
        ValueError, match=r"`candidate`='accepted' is not an input; use one of current"
    ):
        LatestFromOtherData("accepted").resolve_artifacts(lineage.store, {"current": []})


def test_returns_the_latest_artifact_or_nothing(lineage):
    one, two = lineage.artifact(), lineage.artifact()
    found = LatestOrNothing().resolve_artifacts(lineage.store, {"a": [two, one], "b": []})
    assert found == {"a": [two], "b": []}


class DataSpec(types.ComponentSpec):
    PARAMETERS = {"content": component_spec.ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {"data": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class DataExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        Path(output_dict["data"][0].uri, "data").write_text(exec_properties["content"])


class Data(base_component.BaseComponent):
    SPEC_CLASS = DataSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(DataExecutor)


class GateSpec(types.ComponentSpec):
    PARAMETERS = {}
    INPUTS = {
        "data": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "earlier": component_spec.ChannelParameter(type=AcceptedData, optional=True),
    }
    OUTPUTS = {"accepted": component_spec.ChannelParameter(type=AcceptedData)}


class GateExecutor(base_executor.BaseExecutor):
    def Do(self, input_dict, output_dict, exec_properties):
        given = Path(input_dict["data"][0].uri, "data").read_text()
        before = [Path(a.uri, "data").read_text() for a in input_dict.get("earlier", [])]
        Path(output_dict["accepted"][0].uri, "data").write_text("<".join([given, *before]))


class Gate(base_component.BaseComponent):
    SPEC_CLASS = GateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(GateExecutor)


def run(root: Path, content: str, number: int) -> tuple[str, bool]:
    """Runs the pipeline; returns the gate's output, and whether it came from the cache."""
    data = Data(
        DataSpec(content=content, data=types.Channel(type=standard_artifacts.Examples))
    ).with_id("Data")
    last = resolver.Resolver(
        strategy_class=LatestFromOtherData,
        config={"candidate": "accepted"},
        current=data.outputs["data"],
        accepted=types.Channel(type=AcceptedData),
    ).with_id("LastAccepted")
    gate = Gate(
        GateSpec(
            data=data.outputs["data"],
            earlier=last.outputs["accepted"],
            accepted=types.Channel(type=AcceptedData),
        )
    ).with_id("Gate")
    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.db"))
    made = pipeline.Pipeline(
        pipeline_name="tiny",
        pipeline_root=str(root / "artifacts"),
        components=[data, last, gate],
        metadata_connection_config=connection,
        enable_cache=True,
    )
    ir = compiler.Compiler().compile(made)
    runtime_parameter_utils.substitute_runtime_parameter(ir, {"pipeline-run-id": f"run-{number}"})
    deployment = runner_utils.extract_local_deployment_config(ir)
    for node in ir.nodes:
        node_id = node.pipeline_node.node_info.id
        info = launcher.Launcher(
            pipeline_node=node.pipeline_node,
            mlmd_connection=metadata.Metadata(connection),
            pipeline_info=ir.pipeline_info,
            pipeline_runtime_spec=ir.runtime_spec,
            executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
            custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
        ).launch()
    assert info is not None
    with metadata.Metadata(connection) as handle:
        (execution,) = handle.store.get_executions_by_id([info.execution_id])
        events = handle.store.get_events_by_execution_ids([info.execution_id])
        (output,) = (e.artifact_id for e in events if e.type == Event.OUTPUT)
        (artifact,) = handle.store.get_artifacts_by_id([output])
    cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
    return Path(artifact.uri, "data").read_text(), cached


def test_in_a_pipeline_the_first_run_resolves_to_nothing_and_the_same_data_is_cached(tmp_path):
    assert run(tmp_path, "a", 1) == ("a", False)
    assert run(tmp_path, "a", 2) == ("a", True)
    assert run(tmp_path, "b", 3) == ("b<a", False)
    assert run(tmp_path, "b", 4) == ("b<a", True)
    assert run(tmp_path, "c", 5) == ("c<b<a", False)
