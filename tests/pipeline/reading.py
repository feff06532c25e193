"""Runs ExampleGen without a metadata store."""

from pathlib import Path

from tfx.dsl.components.base import base_beam_executor
from tfx.orchestration.portable import data_types
from tfx.types import standard_artifacts

from tfrec_meta.pipeline.components.example_gen import Driver, ExampleGen, Executor
from tfrec_meta.pipeline.configs.beam_config import IN_PROCESS
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig
from tfrec_meta.pipeline.rows.corrections import removed_of
from tfrec_meta.pipeline.tables import merge, read_report, report, survey, with_numbers, write


class WithoutBeam(Executor):
    """Processes the units one by one in this process, which takes less time."""

    def _convert(self, units, source, folder):
        removed = {} if source.key is None else removed_of(units, source)
        found = with_numbers(merge(survey(unit, source, removed) for unit in units), source)
        written = merge(write(unit, found, source, folder, removed) for unit in units)
        report(found, written, f"{folder}/.report")
        result = read_report(f"{folder}/.report")
        Path(folder, ".report").unlink()
        return result


def generate(
    folder: Path, table: str, config: TableConfig, time_unit="s", kind=WithoutBeam, data=None
):
    """Resolves the input and runs the executor, as the launcher does; returns the examples."""
    others = {} if table == "interactions" else {"interactions": TableConfig("none.csv")}
    data = data or DataConfig(**{table: config, **others}, time_unit=time_unit)
    component = ExampleGen(table, data)
    examples = standard_artifacts.Examples()
    examples.uri = str(folder / "examples")
    properties = dict(component.exec_properties)
    driver_output = Driver(None).run(
        data_types.ExecutionInfo(exec_properties=properties, output_dict={"examples": [examples]})
    )
    for key, value in driver_output.exec_properties.items():
        properties[key] = getattr(value, value.WhichOneof("value"))
    examples.set_mlmd_artifact(driver_output.output_artifacts["examples"].artifacts[0])
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=list(IN_PROCESS), tmp_dir=str(folder / "tmp")
    )
    kind(context).Do({}, {"examples": [examples]}, properties)
    return examples
