"""A pipeline of three small nodes, for tests of runners: Count -> Double -> Push.

Files in a folder control them: `<node>.fail` makes a node fail, with its text as the error;
`<node>.wait` makes it wait until that file is removed. Each run of an executor appends a line to
`<node>.ran`.
"""

import os
import time
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration import pipeline
from tfx.types.standard_artifacts import Examples, Model, PushedModel

from tfrec_meta.pipeline import metadata_store
from tfrec_meta.pipeline.config import PipelineConfig

NODES = ("Count", "Double", "Push")


def act(node: str, folder: str) -> None:
    """Runs at the start of every node."""
    with open(Path(folder, f"{node}.ran"), "a") as ran:
        ran.write(f"{os.getpid()}\n")
    print(f"{node} says hello", flush=True)
    while Path(folder, f"{node}.wait").exists():
        time.sleep(0.02)
    if Path(folder, f"{node}.fail").exists():
        raise ArithmeticError(Path(folder, f"{node}.fail").read_text())


@component
def Count(
    examples: OutputArtifact[Examples], folder: Parameter[str], number: Parameter[int]
) -> None:
    Path(examples.uri, "half").write_text("")
    act("Count", folder)
    left = sorted(path.name for path in Path(examples.uri).iterdir())
    Path(examples.uri, "number").write_text(str(number))
    examples.set_string_custom_property("left", ",".join(left))
    examples.set_int_custom_property("number", number)


@component
def Double(
    examples: InputArtifact[Examples], model: OutputArtifact[Model], folder: Parameter[str]
) -> None:
    act("Double", folder)
    number = int(Path(examples.uri, "number").read_text())
    Path(model.uri, "number").write_text(str(2 * number))


@component
def Push(
    model: InputArtifact[Model], pushed_model: OutputArtifact[PushedModel], folder: Parameter[str]
) -> None:
    act("Push", folder)
    number = int(Path(model.uri, "number").read_text())
    pushed_model.set_int_custom_property("pushed", int(number > 0))
    pushed_model.set_string_custom_property("pushed_version", str(number))


def create(folder: Path, number: int = 21, name: str = "toy") -> pipeline.Pipeline:
    """Returns the pipeline, with metadata and artifacts below `folder`."""
    config = PipelineConfig.from_dict(
        {
            "name": name,
            "serving": str(folder / "served"),
            "root": str(folder),
            "data": {"interactions": {"path": "none.csv"}},
        }
    )
    count = Count(folder=str(folder), number=number)
    double = Double(examples=count.outputs["examples"], folder=str(folder))
    push = Push(model=double.outputs["model"], folder=str(folder))
    return pipeline.Pipeline(
        pipeline_name=name,
        pipeline_root=str(config.folder),
        components=[count, double, push],
        enable_cache=True,
        metadata_connection_config=metadata_store.metadata_connection(config),
    )
