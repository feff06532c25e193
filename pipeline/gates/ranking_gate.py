"""RankingGate: a model is blessed by how it ranks the whole catalogue, and the page says why.

It stands where TFX's Evaluator would: its ModelBlessing is the standard one, which
`LatestBlessedModelStrategy` and every Pusher understand. The rules are those of `judgement`.
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

from tfrec_meta.models import load_model
from tfrec_meta.pipeline import config as configs
from tfrec_meta.pipeline import events
from tfrec_meta.pipeline.artifacts import MODEL, Catalogue, SeenItems, Verdict
from tfrec_meta.pipeline.components import evaluator
from tfrec_meta.pipeline.config import EvaluatorConfig
from tfrec_meta.pipeline.gates.blessing_rules import Verdict as Judgement
from tfrec_meta.pipeline.gates.blessing_rules import judge, the_same_model
from tfrec_meta.pipeline.pages import verdict_page
from tfrec_meta.pipeline.serving_folder import digest

SPLIT = "test"


class Executor(base_executor.BaseExecutor):
    """Judges the candidate on the test split."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the blessing, and the verdict as JSON and as a page.

        `blessing` gets the stock Evaluator's file (BLESSED or NOT_BLESSED) and custom properties,
        of which `blessing_message` is the verdict in words. A refusal raises nothing: what comes
        after sees that the model is not blessed.

        Raises:
            ValueError: if `config.min_auc` is set and there is no TFMA evaluation, or for slices
                by a column that there isn't.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = configs.from_json(EvaluatorConfig, exec_properties["config"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        baseline = _optional(input_dict, "baseline_model")
        evaluation = _optional(input_dict, "evaluation")
        if config.min_auc is not None and evaluation is None:
            raise ValueError(
                f"`min_auc`={config.min_auc}, but there is no evaluation of TFMA; "
                "wire the Evaluator's to this node."
            )
        signature = {} if evaluation is None else evaluator.read_metrics(evaluation.uri)
        if baseline is not None and _same(model, baseline):
            verdict = the_same_model()
        else:
            seen = pq.read_table(_file(input_dict, "seen", "events.parquet"))
            catalogue = artifact_utils.get_single_uri(input_dict["catalogue"])
            examples = artifact_utils.get_single_uri(input_dict["examples"])
            verdict = judge(
                load_model(Path(model.uri) / MODEL),
                None if baseline is None else load_model(Path(baseline.uri) / MODEL),
                events.interactions(seen, catalogue),
                events.interactions(events.read_split(examples, SPLIT), catalogue),
                config,
                signature.get("", {}).get("auc"),
                exec_properties["seed"],
            )
        left_out = _optional(input_dict, "left_out")
        if left_out is not None:
            words = f"{verdict.words} {_left_out(baseline is not None)}"
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


def _left_out(older: bool) -> str:
    """Why the model that was pushed last is not the one to be held to; whether an older one is."""
    held_to = "An older one is the" if older else "There is no"
    return (
        f"{held_to} last blessed model to compare with: the one that was pushed last learnt from "
        "rows that were split otherwise, and may have seen those that are asked about now."
    )


def _optional(inputs: dict[str, list[types.Artifact]], name: str) -> types.Artifact | None:
    found = inputs.get(name)  # a resolver that found nothing gives an empty list
    return artifact_utils.get_single_instance(found) if found else None


def _file(inputs: dict[str, list[types.Artifact]], name: str, file: str) -> Path:
    return Path(artifact_utils.get_single_uri(inputs[name])) / file


def _same(model: types.Artifact, baseline: types.Artifact) -> bool:
    """One artifact, or the same weights, features and settings to the byte."""
    if model.uri == baseline.uri:
        return True
    folders = [Path(each.uri) / MODEL for each in (model, baseline)]
    return all(folder.is_dir() for folder in folders) and digest(folders[0]) == digest(folders[1])


def _write(
    folder: Path, verdict: Judgement, facts: dict[str, Any], signature: dict[str, dict[str, float]]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {**verdict.as_dict(), **facts, "signature": signature}
    text = json.dumps(_without_nan(record), indent=1, allow_nan=False)
    (folder / "verdict.json").write_text(text, encoding="utf-8")
    page = verdict_page.render(verdict, facts, signature)
    (folder / "verdict.html").write_text(page, encoding="utf-8")


def _without_nan(value: Any) -> Any:
    """None for NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _bless(
    blessing: types.Artifact,
    verdict: Judgement,
    model: types.Artifact,
    baseline: types.Artifact | None,
) -> None:
    """As the stock Evaluator does."""
    folder = Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    name = constants.BLESSED_FILE_NAME if verdict.blessed else constants.NOT_BLESSED_FILE_NAME
    (folder / name).write_text("", encoding="utf-8")
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
    """What the gate reads and writes."""

    PARAMETERS = {
        "config": component_spec.ExecutionParameter(type=str),
        "seed": component_spec.ExecutionParameter(type=int),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "catalogue": component_spec.ChannelParameter(type=Catalogue),
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
        "verdict": component_spec.ChannelParameter(type=Verdict),
    }


class RankingGate(base_component.BaseComponent):
    """Blesses a model that ranks above popularity and not below the last blessed one.

    Args:
        examples: of Histories; the split `test` is judged.
        catalogue: of Histories.
        seen: of Histories; what may be known, and is not recommended again.
        model: the candidate, with `model/` as `tfrec_meta.save` writes it.
        baseline_model: the last blessed one, if there is one.
        left_out: the one that was pushed last, if it can't be the baseline for having learnt from
            other splits.
        evaluation: of TFMA, for `config.min_auc` and for the page.
        config: thresholds and slices.
        seed: of the bootstrap.
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
                config=configs.as_json(config),
                seed=seed,
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
                verdict=types.Channel(type=Verdict),
            )
        )
