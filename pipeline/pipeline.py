"""The graph of the pipeline: which node reads the outputs of which."""

from __future__ import annotations

import tfx.v1 as tfx
from absl import logging
from tfx.types import standard_artifacts

from tfrec_meta.pipeline.artifacts import AcceptedData
from tfrec_meta.pipeline.components import evaluator
from tfrec_meta.pipeline.components.example_gen import ExampleGen
from tfrec_meta.pipeline.components.histories import Histories
from tfrec_meta.pipeline.components.infra_validator import infra_validator
from tfrec_meta.pipeline.components.preprocessing import Transform
from tfrec_meta.pipeline.components.pusher import Pusher
from tfrec_meta.pipeline.components.resolvers import (
    LastPushed,
    LatestFromOtherData,
    LatestOrNothing,
)
from tfrec_meta.pipeline.components.schemas import Schemas
from tfrec_meta.pipeline.components.trainer import Trainer
from tfrec_meta.pipeline.components.tuner import Tuner
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.gates.data_gate import DataGate
from tfrec_meta.pipeline.gates.drift import Limits
from tfrec_meta.pipeline.gates.ranking_gate import RankingGate
from tfrec_meta.pipeline.gates.split_gate import SplitGate
from tfrec_meta.pipeline.metadata_store import metadata_connection
from tfrec_meta.pipeline.node_ids import NODES_OF_TABLES, NodeId


def create_pipeline(config: PipelineConfig) -> tfx.dsl.Pipeline:
    """Returns the pipeline of a config, for any of TFX's runners.

    Raises:
        ValueError: for settings that only the nodes can check, such as an unknown family, or a
            schema that is missing in the curated folder.
    """
    if config.beam.is_untried:
        logging.warning(
            "The arguments of Beam for %s are generated, and have never been tried with this "
            "package: %s",
            config.beam.runner,
            " ".join(config.beam.arguments),
        )
    tables = config.data.tables
    examples, statistics, anomalies = {}, {}, {}
    components = []

    def add(component, node_id: NodeId):
        components.append(component.with_id(node_id.value))
        return component.outputs

    for name in tables:
        node_id = NODES_OF_TABLES[name].gen
        examples[name] = add(ExampleGen(name, config.data), node_id)["examples"]
    for name in tables:
        statistics_gen = tfx.components.StatisticsGen(examples=examples[name])
        statistics[name] = add(statistics_gen, NODES_OF_TABLES[name].statistics)["statistics"]
    accepted = add(
        tfx.dsl.Resolver(
            strategy_class=LatestFromOtherData,
            config={"candidate": "accepted"},
            **{f"current_{name}": channel for name, channel in statistics.items()},
            accepted=tfx.dsl.Channel(type=AcceptedData),
        ),
        NodeId.LAST_ACCEPTED,
    )["accepted"]
    schemas = add(
        Schemas(statistics=statistics, accepted=accepted, config=config.data), NodeId.SCHEMAS
    )
    for name in tables:
        validator = tfx.components.ExampleValidator(
            statistics=statistics[name], schema=schemas[name]
        )
        anomalies[name] = add(validator, NODES_OF_TABLES[name].validator)["anomalies"]
    gate = DataGate(
        examples=examples,
        statistics=statistics,
        schemas=schemas,
        anomalies=anomalies,
        accepted=accepted,
        config=config.data,
    )
    add(gate, NodeId.DATA_GATE)

    histories = Histories(
        **examples,
        config=config.split,
        clean=config.data.clean,
        feedback=config.feedback,
        bad_rows=config.data.bad_rows,
        seed=config.seed,
        sessions=config.data.sessions,
    )
    histories.add_upstream_node(gate)
    rows = add(histories, NodeId.HISTORIES)
    earlier = add(
        tfx.dsl.Resolver(
            strategy_class=LatestFromOtherData,
            config={"candidate": "transform_graph"},
            current=rows["examples"],
            transform_graph=tfx.dsl.Channel(type=standard_artifacts.TransformGraph),
        ),
        NodeId.LAST_TRANSFORM,
    )["transform_graph"]
    transform = Transform(
        examples=rows["examples"],
        schema=rows["schema"],
        catalogue=rows["catalogue"],
        earlier=earlier,
        features=config.trainer.strategy.get("features"),
        history_length=config.split.history_length,
        materialize=config.materialize,
    )
    if config.data.max_split_drift is not None:
        limits = Limits(config.data.max_split_drift, config.data.split_drift)
        split_gate = SplitGate(limits, rows["examples"], rows["schema"], rows["catalogue"])
        add(split_gate, NodeId.SPLIT_GATE)
        transform.add_upstream_node(split_gate)  # a refused split must not add to the vocabularies
    graph = add(transform, NodeId.TRANSFORM)["transform_graph"]

    training_inputs = {
        "examples": rows["examples"],
        "transform_graph": graph,
        "catalogue": rows["catalogue"],
        "config": config,
    }
    if config.tuner.enabled:
        best = add(Tuner(**training_inputs), NodeId.TUNER)["best_hyperparameters"]
    else:
        best = add(
            tfx.dsl.Resolver(
                strategy_class=LatestOrNothing,
                best_hyperparameters=tfx.dsl.Channel(type=standard_artifacts.HyperParameters),
            ),
            NodeId.LAST_STRATEGY,
        )["best_hyperparameters"]
    earlier_models = {
        "examples": rows["examples"],
        "model": tfx.dsl.Channel(type=standard_artifacts.Model),
        "pushed_model": tfx.dsl.Channel(type=standard_artifacts.PushedModel),
        "left_out": tfx.dsl.Channel(type=standard_artifacts.Model),
    }
    base = None
    if config.trainer.warm_start:
        resolver = tfx.dsl.Resolver(
            strategy_class=LastPushed, config={"other_data": True}, **earlier_models
        )
        base = add(resolver, NodeId.LAST_BASE)["model"]
    model = add(
        Trainer(
            **training_inputs,
            schema=rows["schema"],
            hyperparameters=best,
            base_model=base,
        ),
        NodeId.TRAINER,
    )["model"]

    evaluation = None
    if config.evaluator.positive is not None:
        evaluation = add(
            tfx.components.Evaluator(
                examples=rows["examples"],
                example_splits=evaluator.SPLITS,
                schema=rows["schema"],
                model=model,
                eval_config=evaluator.eval_config(config.evaluator),
                module_path=evaluator.MODULE,
            ),
            NodeId.EVALUATOR,
        )["evaluation"]
    blessed = add(
        tfx.dsl.Resolver(strategy_class=LastPushed, **earlier_models), NodeId.LAST_BLESSED
    )
    verdict = add(
        RankingGate(
            examples=rows["examples"],
            catalogue=rows["catalogue"],
            seen=rows["seen"],
            model=model,
            baseline_model=blessed["model"],
            left_out=blessed["left_out"],
            evaluation=evaluation,
            config=config.evaluator,
            seed=config.seed,
            recommend_history=config.recommend_history,
        ),
        NodeId.RANKING_GATE,
    )
    infra = add(
        infra_validator(model=model, examples=rows["examples"], config=config.infra_validator),
        NodeId.INFRA_VALIDATOR,
    )
    add(
        Pusher(
            model=model,
            model_blessing=verdict["blessing"],
            infra_blessing=infra["blessing"],
            serving=config.serving,
        ),
        NodeId.PUSHER,
    )
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.folder / "artifacts"),
        components=components,
        enable_cache=config.cache,
        metadata_connection_config=metadata_connection(config),
        beam_pipeline_args=list(config.beam.arguments),
    )
