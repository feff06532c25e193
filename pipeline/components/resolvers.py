"""Resolvers: the artifacts of earlier runs that a run uses.

TFX's cache compares the ids of input artifacts. A resolver that returned the newest artifact would
return an output of the previous run, and every node downstream would run again for the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ml_metadata
from absl import logging
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver

from tfrec_meta.pipeline.artifacts import SPLIT_IDENTITY


class LatestFromOtherData(resolver.ResolverStrategy):
    """Returns the newest artifact that was not made from the current data, or nothing.

        Resolver(
            strategy_class=LatestFromOtherData,
            config={"candidate": "accepted"},
            current=statistics.outputs["statistics"],
            accepted=Channel(type=AcceptedData),
        ).with_id(NodeId.LAST_ACCEPTED)

    The input `candidate` has the candidates; all other inputs are the current data. An artifact was
    made from the current data if its execution had all current artifacts among its inputs. (With
    only some of them, another table has changed, and the artifact is earlier state for that table.)
    Inputs of inputs do not count: the state that the second run accepted was compared with that of
    the first, but was not made from it. So the same data always resolves to the same artifact,
    until a run on other data.

    Args:
        candidate: key of the input to choose from; at most one of its artifacts is returned.
    """

    def __init__(self, candidate: str) -> None:
        self._candidate = candidate

    def resolve_artifacts(
        self,
        store: ml_metadata.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Returns `input_dict` with at most one candidate.

        Raises:
            ValueError: if `candidate` is not an input.
        """
        if self._candidate not in input_dict:
            raise ValueError(
                f"`candidate`={self._candidate!r} is not an input; use one of "
                f"{', '.join(input_dict)}."
            )
        current = {
            artifact.id
            for key, artifacts in input_dict.items()
            if key != self._candidate
            for artifact in artifacts
        }
        newest_first = _newest_first(input_dict[self._candidate])
        earlier = [made for made in newest_first if not _made_from(store, made.id, current)]
        return {**input_dict, self._candidate: earlier[:1]}


class LastPushed(resolver.ResolverStrategy):
    """Returns the model that was pushed last, which is the served one; or nothing.

        Resolver(
            strategy_class=LastPushed,
            examples=histories.outputs["examples"],
            model=Channel(type=Model),
            pushed_model=Channel(type=PushedModel),
            left_out=Channel(type=Model),
        ).with_id(NodeId.LAST_BLESSED)

    A pushed model was blessed by the ranking gate and by InfraValidator. TFX's own
    LatestBlessedModelStrategy requires a ModelBlessing only: later models would be compared with a
    model that no server could load. It also returns the newest model, although an older one may
    have been blessed and pushed again.

    A model whose examples have another split than the current ones is skipped: its training data
    may contain current test events, so that it would be an unreachable baseline, or would leak them
    through a warm start. `left_out` is the newest skipped model if it was pushed after the returned
    one.

    Args:
        other_data: whether to skip a model that was made from the current examples too. A warm
            start is then the same training in every run on the same data; from the served model it
            would continue with each run.
    """

    def __init__(self, other_data: bool = False) -> None:
        self._other_data = other_data

    def resolve_artifacts(
        self,
        store: ml_metadata.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Returns `input_dict` with at most one artifact per key, except for the examples."""
        examples = input_dict["examples"]
        current = {artifact.id for artifact in examples}
        split = _split_identities(artifact.mlmd_artifact for artifact in examples)
        models = {
            model.id: model
            for model in _newest_first(input_dict["model"])
            if not (self._other_data and _made_from(store, model.id, current))
        }
        nothing: list[types.Artifact] = []
        found = {**input_dict, "model": nothing, "pushed_model": nothing, "left_out": nothing}
        for pushed in _newest_first(input_dict["pushed_model"]):
            if pushed.get_int_custom_property("pushed") != 1:
                continue
            for model in _inputs_of(store, pushed.id) & models.keys():
                sources = store.get_artifacts_by_id(sorted(_inputs_of(store, model)))
                if _split_identities(sources) == split:
                    return {**found, "model": [models[model]], "pushed_model": [pushed]}
                found["left_out"] = found["left_out"] or [models[model]]
        if self._other_data and found["left_out"]:
            logging.warning(
                "No warm start: the model that was pushed last was trained on another split, so it "
                "may have seen events of this test split."
            )
        return found


class LatestOrNothing(resolver.ResolverStrategy):
    """Returns the newest artifact of each channel, or nothing.

    TFX's own LatestArtifactStrategy fails if there is none.
    """

    def resolve_artifacts(
        self,
        store: ml_metadata.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Returns `input_dict` with at most one artifact per key."""
        return {key: _newest_first(artifacts)[:1] for key, artifacts in input_dict.items()}


def _newest_first(artifacts: Sequence[types.Artifact]) -> list[types.Artifact]:
    live = metadata_store_pb2.Artifact.LIVE
    existing = (artifact for artifact in artifacts if artifact.mlmd_artifact.state == live)
    return sorted(existing, key=lambda artifact: artifact.id, reverse=True)


def _made_from(store: ml_metadata.MetadataStore, artifact: int, current: set[int]) -> bool:
    """Returns whether an execution with output `artifact` had all of `current` as inputs."""
    inputs = _inputs_by_execution(store, artifact).values()
    return bool(current) and any(current <= each for each in inputs)


def _split_identities(artifacts: Iterable[metadata_store_pb2.Artifact]) -> set[str]:
    """Returns the split identities of the examples among the artifacts."""
    return {
        artifact.custom_properties[SPLIT_IDENTITY].string_value
        for artifact in artifacts
        if SPLIT_IDENTITY in artifact.custom_properties
    }


def _inputs_of(store: ml_metadata.MetadataStore, artifact: int) -> set[int]:
    """Returns the inputs of all executions with output `artifact`."""
    return set().union(*_inputs_by_execution(store, artifact).values())


def _inputs_by_execution(store: ml_metadata.MetadataStore, artifact: int) -> dict[int, set[int]]:
    """Returns the inputs of each execution with output `artifact`."""
    event_type = metadata_store_pb2.Event
    executions = [
        event.execution_id
        for event in store.get_events_by_artifact_ids([artifact])
        if event.type in (event_type.OUTPUT, event_type.DECLARED_OUTPUT)
    ]
    inputs: dict[int, set[int]] = {execution: set() for execution in executions}
    for event in store.get_events_by_execution_ids(executions):
        if event.type in (event_type.INPUT, event_type.DECLARED_INPUT):
            inputs[event.execution_id].add(event.artifact_id)
    return inputs
