"""Tuner: the search for a strategy on the rows of Histories, encoded as fitted by Transform.

A killed node continues with the remaining trials: until the node has finished, the study is in a
work folder whose name depends on inputs and settings. The results of all runs are in a store, from
which the next search learns.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner import executor
from tfx.components.tuner.component import TunerFnResult
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto import trainer_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types import standard_component_specs as standard
from tfx.utils import json_utils

from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.features.transform import spec_of
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline import events, work_folders
from tfrec_meta.pipeline.artifacts import CatalogueTables
from tfrec_meta.pipeline.components.trainer import chosen_strategy
from tfrec_meta.pipeline.config import PipelineConfig, TunerConfig
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.tuning import (
    AllTrialsFailed,
    SearchOptions,
    StrategySpace,
    StudyStore,
    TransferOptions,
)
from tfrec_meta.workflows.tune import (
    SearchEvents,
    strategy_space,
    strategy_tuner,
    write_report,
)

TRIALS = "trials.json"  # next to TFX's results: the records of `StrategyTuner.trials`
REPORT = "report.html"  # the page of the study
_log = logging.getLogger(__name__)
TUNER_FN = f"{__name__}.tuner_fn"


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Returns a tuner that trains on `train_files` and selects by `eval_files`.

    The rows are read and prepared once for all trials.

    Args:
        fn_args: TFX's arguments. `custom_config` has `tuner` (a TunerConfig as JSON), `strategy`
            (JSON: the part that is not searched), `seed`, `recommend_history`, `store` (folder of
            all studies), `protocol` (of the validation), `catalogue` (its folder) and `folder` (of
            the study).

    Raises:
        ValueError: for an invalid search space, or validation events that allow no selection.
    """
    settings = fn_args.custom_config
    config = from_json(TunerConfig, settings["tuner"])
    strategy = chosen_strategy(json.loads(settings["strategy"]), settings["seed"])
    train, validation = (
        events.interactions(events.read_files(files), settings["catalogue"])
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    tuner = strategy_tuner(
        SearchEvents(
            train,
            validation,
            ValidationProtocol(settings["protocol"]),
            recommend_history=settings["recommend_history"],
        ),
        strategy,
        spec_of(fn_args.transform_graph_path),
        strategy_space(strategy, config.families, config.fixed, train),
        settings["folder"],
        SearchOptions(
            oracle=config.oracle,
            trials=config.trials,
            epochs=config.epochs,
            seed=settings["seed"],
            trial_seconds=config.trial_seconds,
        ),
        TransferOptions(StudyStore(settings["store"]), use_prior_studies=True),
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})


class TunerSpec(standard.TunerSpec):
    """TFX's specification with the catalogue and the work folder."""

    PARAMETERS = {
        **standard.TunerSpec.PARAMETERS,
        "work": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        **standard.TunerSpec.INPUTS,
        "catalogue": component_spec.ChannelParameter(type=CatalogueTables),
    }


class Executor(executor.Executor):
    """TFX's search and results, with a study that survives a kill."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Searches, and writes TFX's results with `trials.json` and `report.html`.

        Raises:
            AllTrialsFailed: with the cause; the next attempt starts from the beginning.
        """
        with work_folders.locked_folder("studies", input_dict, exec_properties) as folder:
            properties = work_folders.with_paths(folder, input_dict, exec_properties)
            try:
                tuner = executor.search(
                    input_dict, properties, str(folder), print_tuning_summary=False
                )
            except AllTrialsFailed:
                work_folders.remove(folder)
                raise
            executor.write_best_hyperparameters(tuner, output_dict)
            results = Path(artifact_utils.get_single_uri(output_dict[standard.TUNER_RESULTS_KEY]))
            write_text(results / TRIALS, json.dumps(tuner.trials(), indent=1))
            try:
                write_report(tuner, results / REPORT)
            except Exception:  # a missing page must not fail the node
                _log.warning("The page of the study was not written.", exc_info=True)


class Tuner(base_component.BaseComponent):
    """Searches for the strategy with the best result on the validation split.

    Args:
        examples: Examples of Histories.
        transform_graph: of Transform, with the fitted FeatureSpec.
        catalogue: CatalogueTables of Histories.
        config: the pipeline's config.

    Outputs: `best_hyperparameters` and `tuner_results`; the latter has `trials.json` and
    `report.html`.
    """

    SPEC_CLASS = TunerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        transform_graph: types.BaseChannel,
        catalogue: types.BaseChannel,
        *,
        config: PipelineConfig,
    ) -> None:
        # Reports invalid settings before the pipeline runs.
        StrategySpace(config.tuner.families, config.tuner.fixed)
        chosen_strategy(config.trainer.strategy, config.seed)
        super().__init__(
            # Through self: TFX reloads this module to find the function, which renames the class.
            spec=self.SPEC_CLASS(
                examples=examples,
                transform_graph=transform_graph,
                catalogue=catalogue,
                train_args=trainer_pb2.TrainArgs(splits=["train"]),
                eval_args=trainer_pb2.EvalArgs(splits=["validation"]),
                tuner_fn=TUNER_FN,
                work=work_folders.work_root(config),
                custom_config=json_utils.dumps(
                    {
                        "tuner": as_json(config.tuner),
                        "strategy": json.dumps(dict(config.trainer.strategy), sort_keys=True),
                        "seed": config.seed,
                        "recommend_history": config.recommend_history,
                        # The path only: the content of the store is not an input.
                        "store": str(config.tuner.store or config.folder / "studies"),
                        "protocol": config.split.protocol.validation.value,
                    }
                ),
                best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
                tuner_results=types.Channel(type=standard_artifacts.TunerResults),
            )
        )
