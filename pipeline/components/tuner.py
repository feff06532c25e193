"""Tuner: the search for a strategy, on the rows of Histories, encoded as Transform fitted.

A killed node goes on with the trials that are left: the study lies in a work folder whose name
tells inputs and settings from others, until the node has finished. What all runs found is in a
store that outlives them, so that the next search begins with it.
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

from tfrec_meta.data.protocols import SplitProtocol, ValidationProtocol
from tfrec_meta.features.transform import spec_of
from tfrec_meta.pipeline import events, work_folders
from tfrec_meta.pipeline.artifacts import Catalogue
from tfrec_meta.pipeline.components.trainer import chosen_strategy
from tfrec_meta.pipeline.config import PipelineConfig, TunerConfig, as_json, from_json
from tfrec_meta.tuning import AllTrialsFailed, StrategySpace, StudyStore
from tfrec_meta.workflows import tune as strategy_search

TRIALS = "trials.json"  # beside TFX's results: what `StrategyTuner.trials` gives
REPORT = "report.html"  # and the page of the study
_log = logging.getLogger(__name__)
TUNER_FN = f"{__name__}.tuner_fn"


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """A tuner that trains on `train_files` and chooses by `eval_files`.

    Rows are read, and what is asked of them prepared, once for all trials.

    Args:
        fn_args: TFX's; its `custom_config` holds `tuner` (a TunerConfig as JSON), `strategy` (as
            JSON: what is not searched), `seed`, `store` (the folder of all studies), `protocol`
            (of the validation), `catalogue` (its folder) and `folder` of the study.

    Raises:
        ValueError: for a space that makes no sense, or validation that nothing can be chosen by.
    """
    settings = fn_args.custom_config
    config = from_json(TunerConfig, settings["tuner"])
    strategy = chosen_strategy(json.loads(settings["strategy"]), settings["seed"])
    train, validation = (
        events.interactions(events.read_files(files), settings["catalogue"])
        for files in (fn_args.train_files, fn_args.eval_files)
    )
    tuner = strategy_search.strategy_tuner(
        train,
        validation,
        strategy,
        spec_of(fn_args.transform_graph_path),
        StrategySpace(config.families, config.fixed),
        settings["folder"],
        oracle=config.oracle,
        trials=config.trials,
        epochs=config.epochs,
        seed=settings["seed"],
        store=StudyStore(settings["store"]),
        protocol=ValidationProtocol(settings["protocol"]),
        trial_seconds=config.trial_seconds,
    )
    return TunerFnResult(tuner=tuner, fit_kwargs={})


class TunerSpec(standard.TunerSpec):
    """TFX's, with the catalogue, and where to work."""

    PARAMETERS = {
        **standard.TunerSpec.PARAMETERS,
        "work": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        **standard.TunerSpec.INPUTS,
        "catalogue": component_spec.ChannelParameter(type=Catalogue),
    }


class Executor(executor.Executor):
    """TFX's search and results, with a study that survives a kill."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Searches, and writes TFX's results, and `trials.json` and `report.html` beside them.

        Raises:
            AllTrialsFailed: with the cause; the next attempt begins anew.
        """
        with work_folders.held("studies", input_dict, exec_properties) as folder:
            told = work_folders.told(folder, input_dict, exec_properties)
            try:
                tuner = executor.search(input_dict, told, str(folder), print_tuning_summary=False)
            except AllTrialsFailed:
                work_folders.remove(folder)
                raise
            executor.write_best_hyperparameters(tuner, output_dict)
            results = Path(artifact_utils.get_single_uri(output_dict[standard.TUNER_RESULTS_KEY]))
            text = json.dumps(tuner.trials(), indent=1)
            (results / TRIALS).write_text(text, encoding="utf-8")
            try:
                tuner.report(results / REPORT)
            except Exception:  # what was found is worth more than its page
                _log.warning("The page of the study can't be written.", exc_info=True)


class Tuner(base_component.BaseComponent):
    """Searches for the strategy that does best on the validation split.

    Args:
        examples: of Histories.
        transform_graph: of Transform; the fitted FeatureSpec.
        catalogue: of Histories.
        config: of the pipeline.

    Outputs: `best_hyperparameters` and `tuner_results`, with `trials.json` and `report.html` in the
    latter.
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
        # A mistake is better told now than after an hour.
        StrategySpace(config.tuner.families, config.tuner.fixed)
        chosen_strategy(config.trainer.strategy, config.seed)
        super().__init__(
            # Not by its name: TFX reloads this module when it looks for the function in it.
            spec=self.SPEC_CLASS(
                examples=examples,
                transform_graph=transform_graph,
                catalogue=catalogue,
                train_args=trainer_pb2.TrainArgs(splits=["train"]),
                eval_args=trainer_pb2.EvalArgs(splits=["validation"]),
                tuner_fn=TUNER_FN,
                work=work_folders.root(config),
                custom_config=json_utils.dumps(
                    {
                        "tuner": as_json(config.tuner),
                        "strategy": json.dumps(dict(config.trainer.strategy), sort_keys=True),
                        "seed": config.seed,
                        # The place alone: what lies there must not count as an input.
                        "store": str(config.tuner.store or config.folder / "studies"),
                        "protocol": SplitProtocol(config.split.protocol).validation.value,
                    }
                ),
                best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
                tuner_results=types.Channel(type=standard_artifacts.TunerResults),
            )
        )
