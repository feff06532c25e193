"""Trainer: trains the candidate in memory on the rows of Histories, encoded as fitted by Transform.

A killed node continues from its last finished epoch: until the node has finished, its checkpoints
are in a work folder whose name depends on inputs and settings.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.trainer import executor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import trainer_pb2
from tfx.types import component_spec, standard_artifacts
from tfx.types import standard_component_specs as standard
from tfx.utils import json_utils

from tfrec_meta.export.config import ExportConfig
from tfrec_meta.export.saved_model import write_model
from tfrec_meta.features.transform import spec_of
from tfrec_meta.io.files import write_text
from tfrec_meta.models import load_model
from tfrec_meta.models.base.configs import read_config
from tfrec_meta.models.base.contract import WarmStartError
from tfrec_meta.pipeline import events, work_folders
from tfrec_meta.pipeline.artifacts import MODEL, CatalogueTables
from tfrec_meta.pipeline.config import PipelineConfig, TrainerConfig
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.strategy import Strategy
from tfrec_meta.tuning import StrategySpace
from tfrec_meta.workflows import train as workflow

STRATEGY = "strategy.json"  # in the model run
RUN_FN = f"{__name__}.run_fn"

_log = logging.getLogger(__name__)


def run_fn(fn_args: FnArgs) -> None:
    """Trains a model on `train_files`, with early stopping by `eval_files`, and writes it.

    Next to the SavedModel of `serving_model_dir` it writes the folder `model` for
    `tfrec_meta.load`, and into `model_run_dir` the strategy, the training curve and TensorBoard's
    logs.

    Args:
        fn_args: TFX's arguments. `custom_config` has `trainer` (a TrainerConfig as JSON), `seed`,
            `recommend_history`, `name` (of the served model), `catalogue` (its folder) and
            `folder` (the work folder).

    Raises:
        ValueError: for an invalid strategy or hyperparameters, or no training events.
    """
    settings = fn_args.custom_config
    config = from_json(TrainerConfig, settings["trainer"])
    strategy = chosen_strategy(config.strategy, settings["seed"], fn_args.hyperparameters)
    recommend_history = settings["recommend_history"]
    export = read_config(ExportConfig, {"recommend_history": recommend_history, **config.export})
    events_to_train, validation = (
        events.interactions(events.read_files(files), settings["catalogue"])
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    work = Path(settings["folder"])
    options: dict[str, Any] = {
        "validation": validation,
        "features": spec_of(fn_args.transform_graph_path),
        "folder": work,
        "recommend_history": recommend_history,
    }
    earlier = None
    if config.warm_start and fn_args.base_model:
        earlier = load_model(Path(fn_args.base_model).parent / MODEL)
    try:
        model = workflow.train(events_to_train, strategy, warm_start=earlier, **options)
    except WarmStartError as error:
        _log.warning("Cold start instead of a warm start: %s", error)
        model = workflow.train(events_to_train, strategy, **options)
    serving = Path(fn_args.serving_model_dir)
    model.save(serving.parent / MODEL, overwrite=True)
    shutil.rmtree(serving, ignore_errors=True)  # output of a killed attempt
    write_model(model, serving, settings["name"], export)
    run = Path(fn_args.model_run_dir)
    write_text(run / STRATEGY, json.dumps(strategy.as_dict(), indent=1))
    for name in ("history.jsonl", "tensorboard"):
        if (work / name).is_dir():
            shutil.copytree(work / name, run / name, dirs_exist_ok=True)
        elif (work / name).exists():
            shutil.copy(work / name, run / name)


def chosen_strategy(
    record: Mapping[str, Any], seed: int, hyperparameters: Mapping[str, Any] | None = None
) -> Strategy:
    """Returns the strategy of the config, overridden by the result of a search.

    Args:
        record: strategy of the config, for `Strategy.from_dict`.
        seed: seed of the training if the record has none.
        hyperparameters: output of TFX's Tuner: the config of `keras_tuner.HyperParameters`.

    Raises:
        ValueError: for an invalid setting; the message names it.
    """
    training = {"seed": seed, **record.get("training", {})}
    strategy = Strategy.from_dict({**record, "training": training})
    if hyperparameters is None:
        return strategy
    values = hyperparameters["values"]
    if "family" not in values:
        raise ValueError(
            f"The hyperparameters have no `family`, only {', '.join(values)}; use those of Tuner."
        )
    space = StrategySpace((values["family"],), weights="use_weights" in values)
    found = space.strategy_record(values)
    return strategy.with_changes(found)


class TrainerSpec(standard.TrainerSpec):
    """TFX's specification with the catalogue and the work folder."""

    PARAMETERS = {
        **standard.TrainerSpec.PARAMETERS,
        "work": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        **standard.TrainerSpec.INPUTS,
        "catalogue": component_spec.ChannelParameter(type=CatalogueTables),
    }


class Executor(executor.GenericExecutor):
    """TFX's executor, with the catalogue and a work folder that survives a kill."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs `run_fn`."""
        with work_folders.locked_folder("training", input_dict, exec_properties) as folder:
            properties = work_folders.with_paths(folder, input_dict, exec_properties)
            super().Do(input_dict, output_dict, properties)


class Trainer(base_component.BaseComponent):
    """Trains a strategy on the train split, with early stopping by the validation split.

    Args:
        examples: Examples of Histories.
        transform_graph: of Transform, with the fitted FeatureSpec.
        schema: Schema of Histories.
        catalogue: CatalogueTables of Histories.
        hyperparameters: result of a search; None or an empty channel uses the config's strategy.
        base_model: the model to start from if the config has a warm start; may be empty.
        config: the pipeline's config.

    Outputs: `model` (`Format-Serving`, and `model` for `tfrec_meta.load`) and `model_run`.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        schema: types.BaseChannel,
        catalogue: types.BaseChannel,
        hyperparameters: types.BaseChannel | None = None,
        base_model: types.BaseChannel | None = None,
        *,
        config: PipelineConfig,
    ) -> None:
        # Reports invalid settings before the pipeline runs.
        chosen_strategy(config.trainer.strategy, config.seed)
        read_config(ExportConfig, config.trainer.export)
        super().__init__(
            # Through self: TFX reloads this module to find the function, which renames the class.
            spec=self.SPEC_CLASS(
                examples=examples,
                transform_graph=transform_graph,
                schema=schema,
                catalogue=catalogue,
                hyperparameters=hyperparameters,
                base_model=base_model,
                train_args=trainer_pb2.TrainArgs(splits=["train"]),
                eval_args=trainer_pb2.EvalArgs(splits=["validation"]),
                run_fn=RUN_FN,
                work=work_folders.work_root(config),
                custom_config=json_utils.dumps(
                    {
                        "trainer": as_json(config.trainer),
                        "seed": config.seed,
                        "recommend_history": config.recommend_history,
                        "name": Path(config.serving).name,
                    }
                ),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
            )
        )
