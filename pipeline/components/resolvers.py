"""What a run takes from earlier ones.

TFX's cache goes by the ids of input artifacts. A resolver that returned whatever is newest would
return what the last run made, and so make everything below it run again, for the same data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ml_metadata
from absl import logging
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver

from tfrec_meta.pipeline.artifacts import SPLIT_BY


class LatestFromOtherData(resolver.ResolverStrategy):
    """The newest artifact that was not made from the current data, or nothing.

        Resolver(
            strategy_class=LatestFromOtherData,
            config={"candidate": "accepted"},
            current=statistics.outputs["statistics"],
            accepted=Channel(type=AcceptedData),
        ).with_id("LastAccepted")

    Of the inputs, `candidate` is chosen from; all others are the current data. An artifact is made
    from the current data if the execution that made it had all of the current artifacts among its
    inputs (if some only, then another table has changed, and the artifact is earlier state for that
    one). Inputs of inputs don't count: what was accepted in the second run was held to what the
    first one accepted, but is not made of it. So the same data resolve to the same artifact however
    often they are run, until other data have come in between.

    Args:
        candidate: key of the input to choose from; at most one artifact of it is returned.
    """

    def __init__(self, candidate: str) -> None:
        self._candidate = candidate

    def resolve_artifacts(
        self,
        store: ml_metadata.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Gives back `input_dict` with at most one candidate.

        Raises:
            ValueError: `candidate` is none of the inputs.
        """
        if self._candidate not in input_dict:
            raise ValueError(
                f"`candidate`={self._candidate!r}, but the inputs are {', '.join(input_dict)}."
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
    """The model that was pushed last, the one that is served; or nothing.

        Resolver(
            strategy_class=LastPushed,
            examples=histories.outputs["examples"],
            model=Channel(type=Model),
            pushed_model=Channel(type=PushedModel),
            left_out=Channel(type=Model),
        ).with_id("LastBlessed")

    What is pushed was blessed by the ranking gate and by InfraValidator. TFX's own
    LatestBlessedModelStrategy asks for a ModelBlessing alone: a model that no server could load
    would be the one that later ones are held to. And it takes the newest model, where an older one
    may have been blessed and pushed again.

    A model whose examples were split otherwise than the current ones is passed over: it may have
    learnt from what is the test now, as a baseline that no honest model can reach, or as a warm
    start that hands its knowledge on. `left_out` is the newest of those, where it was pushed later
    than the one that is given.

    Args:
        other_data: whether a model that was made from the current examples is passed over, too. So
            a warm start is the same training however often the same data are run; one from the
            model that is served would go on and on.
    """

    def __init__(self, other_data: bool = False) -> None:
        self._other_data = other_data

    def resolve_artifacts(
        self,
        store: ml_metadata.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Gives back `input_dict` with at most one of each but the examples."""
        examples = input_dict["examples"]
        current = {artifact.id for artifact in examples}
        split = _split_by(artifact.mlmd_artifact for artifact in examples)
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
            for model in _taken(store, pushed.id) & models.keys():
                learnt_from = store.get_artifacts_by_id(sorted(_taken(store, model)))
                if _split_by(learnt_from) == split:
                    return {**found, "model": [models[model]], "pushed_model": [pushed]}
                found["left_out"] = found["left_out"] or [models[model]]
        if self._other_data and found["left_out"]:
            logging.warning(
                "No warm start: the model that was pushed last learnt from rows that were split "
                "otherwise, and may have seen what is the test now."
            )
        return found


class LatestOrNothing(resolver.ResolverStrategy):
    """The newest artifact of each channel; nothing where there is none.

    TFX's own LatestArtifactStrategy fails where there is none.
    """

    def resolve_artifacts(
        self,
        store: ml_metadata.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Gives back `input_dict` with at most one artifact for each key."""
        return {key: _newest_first(artifacts)[:1] for key, artifacts in input_dict.items()}


def _newest_first(artifacts: Sequence[types.Artifact]) -> list[types.Artifact]:
    live = metadata_store_pb2.Artifact.LIVE
    there = (artifact for artifact in artifacts if artifact.mlmd_artifact.state == live)
    return sorted(there, key=lambda artifact: artifact.id, reverse=True)


def _made_from(store: ml_metadata.MetadataStore, artifact: int, current: set[int]) -> bool:
    """Whether an execution that gave `artifact` took all of `current`."""
    inputs = _taken_by_maker(store, artifact).values()
    return bool(current) and any(current <= taken for taken in inputs)


def _split_by(artifacts: Iterable[metadata_store_pb2.Artifact]) -> set[str]:
    """By what the examples among them were split."""
    return {
        artifact.custom_properties[SPLIT_BY].string_value
        for artifact in artifacts
        if SPLIT_BY in artifact.custom_properties
    }


def _taken(store: ml_metadata.MetadataStore, artifact: int) -> set[int]:
    """The inputs of all executions that gave `artifact`."""
    return set().union(*_taken_by_maker(store, artifact).values())


def _taken_by_maker(store: ml_metadata.MetadataStore, artifact: int) -> dict[int, set[int]]:
    """Of each execution that gave `artifact`, the inputs."""
    event_type = metadata_store_pb2.Event
    makers = [
        event.execution_id
        for event in store.get_events_by_artifact_ids([artifact])
        if event.type in (event_type.OUTPUT, event_type.DECLARED_OUTPUT)
    ]
    taken: dict[int, set[int]] = {maker: set() for maker in makers}
    for event in store.get_events_by_execution_ids(makers):
        if event.type in (event_type.INPUT, event_type.DECLARED_INPUT):
            taken[event.execution_id].add(event.artifact_id)
    return taken
