"""Runs Tuner and Trainer on the toy data, without a metadata store."""

from pathlib import Path

from tfx.types import channel_utils, standard_artifacts

from tests.pipeline import conftest
from tfrec_meta.pipeline.components import trainer, tuner
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig

STRATEGY = {
    "model": {"embedding_dim": 8, "user_id": True},
    "training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.02},
}


def config(root, **parts):
    return PipelineConfig(
        name="toy",
        data=DataConfig(TableConfig("events.csv")),
        serving="served/movies",
        root=str(root),
        **parts,
    )


def inputs(made, graph):
    """Returns the inputs of Tuner and Trainer; `made` by Histories, `graph` by Transform."""
    return {
        "examples": made["examples"],
        "catalogue": made["catalogue"],
        "transform_graph": graph,
    }


def component(kind, settings, **artifacts):
    channels = {name: channel_utils.as_channel([a]) for name, a in artifacts.items()}
    return kind(**channels, config=settings)


def properties(made):
    """Returns the execution properties as a runner passes them: protocol buffers as JSON."""
    from google.protobuf import json_format, message

    return {
        name: json_format.MessageToJson(value) if isinstance(value, message.Message) else value
        for name, value in made.exec_properties.items()
        if value is not None
    }


def tune(settings, given, folder):
    """Runs Tuner; returns its outputs by name."""
    outputs = {
        "best_hyperparameters": conftest.make_artifact(
            standard_artifacts.HyperParameters, Path(folder) / "best_hyperparameters"
        ),
        "tuner_results": conftest.make_artifact(
            standard_artifacts.TunerResults, Path(folder) / "tuner_results"
        ),
    }
    _do(tuner.Executor(), component(tuner.Tuner, settings, **given), given, outputs)
    return outputs


def train(settings, given, folder):
    """Runs Trainer; returns its outputs by name."""
    outputs = {
        "model": conftest.make_artifact(standard_artifacts.Model, Path(folder) / "model"),
        "model_run": conftest.make_artifact(standard_artifacts.ModelRun, Path(folder) / "run"),
    }
    _do(trainer.Executor(), component(trainer.Trainer, settings, **given), given, outputs)
    return outputs


def _do(executor, made, given, outputs):
    executor.Do(
        {name: [artifact] for name, artifact in given.items()},
        {name: [artifact] for name, artifact in outputs.items()},
        properties(made),
    )
