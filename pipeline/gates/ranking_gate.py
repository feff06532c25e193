"""RankingGate: blesses a model by its ranking of the complete catalogue, and reports why.

It takes the place of TFX's Evaluator: its ModelBlessing is the standard one, which
`LatestBlessedModelStrategy` and every Pusher understand. The rules are in `blessing_rules`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from tfrec_meta.io.files import write_text
from tfrec_meta.models import load_model
from tfrec_meta.pipeline import config_values, events
from tfrec_meta.pipeline.artifacts import MODEL, BlessingReport, CatalogueTables, SeenItems
from tfrec_meta.pipeline.components import evaluator
from tfrec_meta.pipeline.config import EvaluatorConfig
from tfrec_meta.pipeline.gates.blessing_rules import evaluate_candidate, unchanged_model
from tfrec_meta.pipeline.gates.verdict import VERDICT_FILE, VERDICT_PAGE, Verdict
from tfrec_meta.pipeline.pages import verdict_page
from tfrec_meta.pipeline.serving_folder import digest

SPLIT = "test"


class Executor(base_executor.BaseExecutor):
    """Evaluates the candidate on the test split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the blessing, and the verdict as JSON and as a page.

        `blessing` has the stock Evaluator's file (BLESSED or NOT_BLESSED) and custom properties;
        `blessing_message` is the verdict in a sentence. A refusal raises no exception: the nodes
        downstream see that the model is not blessed.

        Raises:
            ValueError: if `config.min_auc` is set without an evaluation of TFMA, or `config.slices`
                has an unknown column.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = config_values.from_json(EvaluatorConfig, exec_properties["config"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        baseline = _optional(input_dict, "baseline_model")
        evaluation = _optional(input_dict, "evaluation")
        if config.min_auc is not None and evaluation is None:
            raise ValueError(
                f"`min_auc`={config.min_auc}, but the node has no evaluation of TFMA; "
                "connect the Evaluator's output."
            )
        signature = {} if evaluation is None else evaluator.read_metrics(evaluation.uri)
        if baseline is not None and _same(model, baseline):
            verdict = unchanged_model()
        else:
            seen = pq.read_table(_file(input_dict, "seen", "events.parquet"))
            catalogue = artifact_utils.get_single_uri(input_dict["catalogue"])
            examples = artifact_utils.get_single_uri(input_dict["examples"])
            verdict = evaluate_candidate(
                load_model(Path(model.uri) / MODEL),
                None if baseline is None else load_model(Path(baseline.uri) / MODEL),
                events.interactions(seen, catalogue),
                events.interactions(events.read_split(examples, SPLIT), catalogue),
                config,
                signature.get("", {}).get("auc"),
                exec_properties["seed"],
                recommend_history=bool(exec_properties.get("recommend_history")),
            )
        left_out = _optional(input_dict, "left_out")
        if left_out is not None:
            words = f"{verdict.words} {_why_left_out(baseline is not None)}"
            verdict = dataclasses.replace(verdict, words=words)
        logging.info(verdict.words)
        facts = {
            "model": model.uri,
            "last_blessed_model": None if baseline is None else baseline.uri,
            "left_out": None if left_out is None else left_out.uri,
            "settings": dataclasses.asdict(config),
        }
        folder = Path(artifact_utils.get_single_uri(output_dict["verdict"]))
        _write(folder, verdict, facts, signature)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        _bless(blessing, verdict, model, baseline)


def _why_left_out(has_older: bool) -> str:
    """Explains why the model that was pushed last is not the baseline."""
    compared = "The comparison uses an older" if has_older else "There is no"
    return (
        f"{compared} last blessed model: the model that was pushed last was trained on another "
        "split, so it may have seen events of this test split."
    )


def _optional(inputs: dict[str, list[types.Artifact]], name: str) -> types.Artifact | None:
    found = inputs.get(name)  # an empty list if a resolver found nothing
    return artifact_utils.get_single_instance(found) if found else None


def _file(inputs: dict[str, list[types.Artifact]], name: str, file: str) -> Path:
    return Path(artifact_utils.get_single_uri(inputs[name])) / file


def _same(model: types.Artifact, baseline: types.Artifact) -> bool:
    """Returns whether both are one artifact, or have equal weights, features and settings."""
    if model.uri == baseline.uri:
        return True
    folders = [Path(each.uri) / MODEL for each in (model, baseline)]
    return all(folder.is_dir() for folder in folders) and digest(folders[0]) == digest(folders[1])


def _write(
    folder: Path, verdict: Verdict, facts: dict[str, Any], signature: dict[str, dict[str, float]]
) -> None:
    record = {**verdict.as_dict(), **facts, "signature": signature}
    text = json.dumps(_without_nan(record), indent=1, allow_nan=False)
    write_text(folder / VERDICT_FILE, text)
    write_text(folder / VERDICT_PAGE, verdict_page.render(verdict, facts, signature))


def _without_nan(value: Any) -> Any:
    """Returns the value with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _bless(
    blessing: types.Artifact,
    verdict: Verdict,
    model: types.Artifact,
    baseline: types.Artifact | None,
) -> None:
    """Writes the blessing in the format of the stock Evaluator."""
    folder = Path(blessing.uri)
    name = constants.BLESSED_FILE_NAME if verdict.blessed else constants.NOT_BLESSED_FILE_NAME
    write_text(folder / name, "")
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline is not None:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, verdict.words
    )
    value = constants.BLESSED_VALUE if verdict.blessed else constants.NOT_BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)


class RankingGateSpec(types.ComponentSpec):
    """Inputs, outputs and parameters; `config` is an `EvaluatorConfig` as JSON."""

    PARAMETERS = {
        "config": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
        "recommend_history": component_spec.ExecutionParameter(type=int, optional=True),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "catalogue": component_spec.ChannelParameter(type=CatalogueTables),
        "seen": component_spec.ChannelParameter(type=SeenItems),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
        "left_out": component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
        "evaluation": component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
    }
    OUTPUTS = {
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "verdict": component_spec.ChannelParameter(type=BlessingReport),
    }


class RankingGate(base_component.BaseComponent):
    """Blesses a model that ranks above popularity and not below the last blessed model.

    Args:
        examples: Examples of Histories; the split `test` is evaluated.
        catalogue: CatalogueTables of Histories.
        seen: SeenItems of Histories; these items are not recommended again.
        model: the candidate, with a folder `model` for `tfrec_meta.load`.
        baseline_model: the last blessed model, if any.
        left_out: the model that was pushed last, if it can't be the baseline because it was trained
            on another split.
        evaluation: of TFMA, for `config.min_auc` and for the page.
        config: thresholds and slices.
        seed: seed of the bootstrap.
        recommend_history: whether items of the past are ranked like all others.

    Outputs: `blessing` and `verdict`, a BlessingReport.
    """

    SPEC_CLASS = RankingGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        catalogue: types.BaseChannel,
        seen: types.BaseChannel,
        model: types.BaseChannel,
        baseline_model: types.BaseChannel | None = None,
        left_out: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        config: EvaluatorConfig = EvaluatorConfig(),  # noqa: B008  (frozen)
        seed: int = 42,
        recommend_history: bool = False,
    ):
        super().__init__(
            RankingGateSpec(
                examples=examples,
                catalogue=catalogue,
                seen=seen,
                model=model,
                baseline_model=baseline_model,
                left_out=left_out,
                evaluation=evaluation,
                config=config_values.as_json(config),
                seed=seed,
                recommend_history=int(recommend_history),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                verdict=types.Channel(type=BlessingReport),
            )
        )
