"""Asks a served model for recommendations, over TF Serving's gRPC API. Imports no TensorFlow.

The client reads the model's signatures once, so that it can pad to the widths fixed at export and
always send the optional inputs (a batching server joins only requests of equal width).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import grpc
import numpy as np

from tfrec_meta.errors import ParameterError
from tfrec_meta.export import signatures as names
from tfrec_meta.serving.client import inputs
from tfrec_meta.serving.protocol import messages, tensors
from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Unavailable,
)
from tfrec_meta.serving.protocol.metadata import (
    ModelMetadata,
    Signature,
    VersionStatus,
    read_metadata,
    read_status,
)

Ids = Sequence[str]
Users = list[str] | tuple[str, ...] | np.ndarray
FIRST_BACKOFF, LAST_BACKOFF = 0.05, 1.0  # seconds between tries of a call


@dataclass(frozen=True)
class Recommendation:
    """An item and how well it fits: higher is better, comparable within one answer only."""

    item_id: str
    score: float


@dataclass(frozen=True)
class Adapted:
    """Recommendations for a newcomer, and how many items of the support set the model knows."""

    items: list[Recommendation]
    support_used: int


class Client:
    """A connection to one served model; safe to share between threads.

    Args:
        address: host:port of the server.
        model: the model's name there.
        version: asks this version and no other; by default the newest.
        label: asks the version with this label.
        timeout: seconds that a call may take in all, with tries again and all that it has to send.
        tls: True for TLS with the public certificate authorities, the path of a PEM file for one's
            own, or `grpc.ChannelCredentials`.
        insecure: sends to another machine without TLS.
        max_message_bytes: size limit of a request and of an answer.

    Raises:
        ValueError: for options that contradict each other.
    """

    def __init__(
        self,
        address: str = f"127.0.0.1:{protocol.DEFAULT_PORT}",
        model: str = "movies",
        version: int | None = None,
        label: str | None = None,
        *,
        timeout: float = 5.0,
        tls: bool | str | os.PathLike[str] | grpc.ChannelCredentials = False,
        insecure: bool = False,
        max_message_bytes: int = protocol.MAX_MESSAGE_BYTES,
    ):
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isdigit()):
            raise ParameterError(
                f"`address`={address!r}; give host:port, as 127.0.0.1:8500.", "address"
            )
        if version is not None and label is not None:
            raise ValueError(f"`version`={version} and `label`={label!r}; give one of them.")
        if not timeout > 0:
            raise ParameterError(
                f"`timeout`={timeout}; give the seconds that a call may take.", "timeout"
            )
        local = protocol.is_loopback(host)
        if tls is False and not local and not insecure:
            raise ParameterError(
                f"`address`={address!r} is another machine, and requests tell what "
                "people like. Use `tls`, or `insecure` in a trusted network.",
                "address",
                "tls",
                "insecure",
            )
        self.address, self.model, self.timeout = address, model, timeout
        self.version, self.label = version, label
        options = [
            *protocol.channel_options(max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", int(FIRST_BACKOFF * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(LAST_BACKOFF * 1000)),
        ]
        if local:  # an http_proxy in the environment is not meant for this machine
            options.append(("grpc.enable_http_proxy", 0))
        if tls is False:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, _credentials(tls), options)
        self._predict_call = self._method(
            protocol.PREDICTION_SERVICE, "Predict", messages.PredictResponse
        )
        self._metadata_call = self._method(
            protocol.PREDICTION_SERVICE, "GetModelMetadata", messages.GetModelMetadataResponse
        )
        self._status_call = self._method(
            protocol.MODEL_SERVICE, "GetModelStatus", messages.GetModelStatusResponse
        )
        self._known: ModelMetadata | None = None

    def _method(self, service: str, name: str, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What people ask.

    @overload
    def recommend(
        self,
        user_id: str = ...,
        history: Ids = ...,
        exclude: Ids = ...,
        k: int = ...,
        **features: Any,
    ) -> list[Recommendation]: ...

    @overload
    def recommend(
        self,
        user_id: Users,
        history: Sequence[Ids] = ...,
        exclude: Sequence[Ids] = ...,
        k: int | Sequence[int] = ...,
        **features: Any,
    ) -> list[list[Recommendation]]: ...

    def recommend(
        self, user_id: Any = "", history: Any = (), exclude: Any = (), k: Any = 10, **features: Any
    ) -> Any:
        """The best items for one user, or for each of several.

        Args:
            user_id: an id, known or not ("": nobody in particular), or a list of ids.
            history: item ids, oldest first; of a longer one than the model takes, the latest count.
                For several users: one such list each.
            exclude: item ids to leave out of the answer, beside those of the history. For several
                users: one such list each.
            k: how many; an answer is shorter where the catalogue or the model's own limit is. For
                several users: one number for all, or one each.
            features: the model's further user and context features, by name; see `metadata()`. For
                several users: one value for all, or one each.

        Returns:
            Recommendations, best first; for several users a list of such lists.

        Raises:
            InvalidRequest: for what the model can't take.
            ServingError: if no answer came; see its subclasses.
        """
        side = inputs.UserSide.of(user_id, history, features, exclude)
        rows = len(side.users)
        if rows == 0:
            return []
        counts = inputs.counts(k, rows, side.single)
        answer = self._predict(
            names.RECOMMEND,
            lambda signature: side.tensors(signature, **{names.K: counts}),
            self._deadline(),
        )
        item_ids, scores = _output(answer, names.ITEM_ID), _output(answer, names.SCORE)
        per_user = [
            # "" fills up a row whose own `k`, or whose items, were fewer than another's.
            [Recommendation(i.decode(), float(s)) for i, s in zip(*row, strict=True) if i]
            for row in zip(item_ids, scores, strict=True)
        ]
        return per_user[0] if side.single else per_user

    def adapt(
        self,
        support: Sequence[Ids | Mapping[str, float | None]],
        exclude: Sequence[Ids] = (),
        k: int | Sequence[int] = 10,
        **features: Any,
    ) -> list[Adapted]:
        """The best items for newcomers, by a few items that each chose.

        Args:
            support: of each newcomer, ids of chosen items, or labels by id, from 0 (not for me) to
                1 (chosen), or ratings of a model of ratings; None for liked, as without labels. Ids
                that the model doesn't know are left out.
            exclude: of each, item ids to leave out of the answer, beside those of the support set.
            k: as of `recommend`.
            features: of a model that adapts by them, features of the newcomers by name, a value
                each; what is left out is unknown.

        Returns:
            One answer each, best first.

        Raises:
            InvalidRequest, ServingError: as `recommend`.
        """
        if not len(support):
            return []
        counts = inputs.counts(k, len(support), single=False)
        answer = self._predict(
            names.ADAPT,
            lambda signature: inputs.support_tensors(signature, support, exclude, counts, features),
            self._deadline(),
        )
        parts = (names.ITEM_ID, names.SCORE, names.SUPPORT_USED)
        return [
            Adapted(
                [
                    Recommendation(i.decode(), float(s))
                    for i, s in zip(ids, scores, strict=True)
                    if i
                ],
                int(used),
            )
            for ids, scores, used in zip(*(_output(answer, name) for name in parts), strict=True)
        ]

    @overload
    def rank(
        self, user_id: str, item_ids: Ids, history: Ids = ..., **features: Any
    ) -> list[Recommendation]: ...

    @overload
    def rank(
        self,
        user_id: Users,
        item_ids: Ids | Sequence[Ids],
        history: Sequence[Ids] = ...,
        **features: Any,
    ) -> list[list[Recommendation]]: ...

    def rank(self, user_id: Any, item_ids: Any, history: Any = (), **features: Any) -> Any:
        """The given items, scored for one user or for each of several.

        Args:
            user_id, history, features: as of `recommend`.
            item_ids: what to rank, as many as wanted (sent in parts of the exported width). For
                several users: one list for all, or one each.

        Returns:
            All given items, best first (equal scores: as given); for several users a list of such
            lists.

        Raises:
            InvalidRequest, ServingError: as `recommend`.
        """
        side = inputs.UserSide.of(user_id, history, features)
        rows = len(side.users)
        if not side.single and inputs.depth(item_ids) == 1 and len(item_ids):
            item_ids = [item_ids] * rows
        candidates = inputs.lists_of_ids("item_ids", item_ids, rows, side.single, blanks=True)
        longest = max(map(len, candidates), default=0)
        deadline = self._deadline()

        def score_part(start: int) -> np.ndarray:
            """float32 [B, C]: of the candidates from `start` on, as many as one call takes."""

            def tensors_for(signature: Signature) -> dict[str, np.ndarray]:
                width = inputs.output_width(signature, names.SCORE) or longest
                part = inputs.padded([ids[start : start + width] for ids in candidates], width)
                return side.tensors(signature, **{names.ITEM_ID: part})

            return _output(self._predict(names.RANK, tensors_for, deadline), names.SCORE)

        parts: list[np.ndarray] = []
        done = 0
        while done < longest:
            parts.append(score_part(done))
            done += parts[-1].shape[1]
        scores = np.concatenate(parts, axis=1) if parts else np.empty((rows, 0), np.float32)
        per_user = [
            # Stable: equal scores stay in the given order.
            sorted(map(Recommendation, ids, row.tolist()), key=lambda item: -item.score)
            for ids, row in zip(candidates, scores, strict=True)
        ]
        return per_user[0] if side.single else per_user

    def rank_examples(self, examples: Sequence[bytes | Mapping[str, Any]]) -> np.ndarray:
        """float32 [B]: scores of queries with one item each.

        Args:
            examples: serialised tf.Examples, or mappings of names to values. A tf.Example tells
                whole numbers from others, so give the model's numbers as floats: 40.0, not 40.

        Raises:
            InvalidRequest, ServingError: as `recommend`.
        """
        serialised = np.empty(len(examples), np.object_)
        serialised[:] = [e if isinstance(e, bytes) else messages.example(e) for e in examples]
        try:
            answer = self._predict(
                names.RANK_EXAMPLES, lambda _: {names.EXAMPLES: serialised}, self._deadline()
            )
        except InvalidRequest as error:
            if "Data types don't match" not in str(error):  # TensorFlow's parser of examples
                raise
            raise InvalidRequest(
                f"{error} In an example give numbers as floats, 40.0 for 40.", error.code
            ) from error
        return _output(answer, names.SCORE)

    def embed_query(
        self, user_id: str | Users = "", history: Any = (), **features: Any
    ) -> np.ndarray:
        """float32 [d] for one user, [B, d] for several. Arguments and errors as of `recommend`."""
        side = inputs.UserSide.of(user_id, history, features)
        answer = self._predict(names.EMBED_QUERY, side.tensors, self._deadline())
        embedding = _output(answer, names.EMBEDDING)
        return embedding[0] if side.single else embedding

    def embed_item(self, **features: Any) -> np.ndarray:
        """float32 [d] of one item, [B, d] of several.

        Args:
            features: the item's features by name (`item_id` and the spec's own; see
                `metadata()`); of several items a list each, or one value for all.

        Raises:
            InvalidRequest, ServingError: as `recommend`.
        """
        single = True

        def build(signature: Signature) -> dict[str, np.ndarray]:
            nonlocal single
            lengths = {
                name: len(value)
                for name, value in features.items()
                if inputs.depth(value) >= inputs.input_rank(signature, name)
            }
            single = not lengths
            rows = 1 if single else next(iter(lengths.values()))
            return inputs.complete(signature, {}, features, rows, single)

        answer = _output(self._predict(names.EMBED_ITEM, build, self._deadline()), names.EMBEDDING)
        return answer[0] if single else answer

    def metadata(self) -> ModelMetadata:
        """The signatures of the version that answers now.

        Raises:
            ServingError: see its subclasses.
        """
        return self._read_metadata(self._deadline())

    def status(self) -> list[VersionStatus]:
        """State of all versions of the model, newest first (of one, if `version` was given).

        Raises:
            ServingError: see its subclasses.
        """
        return self._read_status(self._deadline())

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Returns once the model answers.

        Raises:
            DeadlineExceeded: if it does not within `timeout` seconds; the message tells the last
                state.
        """
        deadline = time.monotonic() + timeout
        pause = FIRST_BACKOFF
        while True:
            try:
                states = self._read_status(deadline)
                if any(status.state == "AVAILABLE" for status in states):
                    return
                last = f"its versions: {states}"
            except (ModelNotFound, Unavailable, DeadlineExceeded) as error:
                last = str(error)
            if time.monotonic() + pause >= deadline:
                raise DeadlineExceeded(
                    f"model {self.model!r} at {self.address} was not ready "
                    f"within {timeout:g} s; {last}"
                )
            time.sleep(pause)
            pause = min(2 * pause, LAST_BACKOFF)

    # How it is asked.

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _fill_spec(self, spec: Any) -> None:
        spec.name = self.model
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label

    def _read_metadata(self, deadline: float) -> ModelMetadata:
        request = messages.GetModelMetadataRequest(metadata_field=[protocol.SIGNATURE_DEF])
        self._fill_spec(request.model_spec)
        self._known = read_metadata(self._call(self._metadata_call, request, deadline))
        return self._known

    def _read_status(self, deadline: float) -> list[VersionStatus]:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        return read_status(self._call(self._status_call, request, deadline))

    def _predict(
        self,
        signature_name: str,
        build: Callable[[Signature], dict[str, np.ndarray]],
        deadline: float,
    ) -> Any:
        """Sends what `build` makes of the signature.

        If it is refused because a new version with other widths or inputs has come since the
        signatures were read, they are read again, once.
        """
        metadata = self._known
        if metadata is None:
            return self._predict_as(self._read_metadata(deadline), signature_name, build, deadline)
        try:
            return self._predict_as(metadata, signature_name, build, deadline)
        except InvalidRequest:
            newer = self._read_metadata(deadline)
            if newer.version == metadata.version:
                raise
        return self._predict_as(newer, signature_name, build, deadline)

    def _predict_as(
        self,
        metadata: ModelMetadata,
        signature_name: str,
        build: Callable[[Signature], dict[str, np.ndarray]],
        deadline: float,
    ) -> Any:
        signature = metadata.signatures.get(signature_name)
        if signature is None:
            raise InvalidRequest(
                f"version {metadata.version} of model {metadata.name!r} has no signature "
                f"{signature_name!r}, only {sorted(metadata.signatures)}. Ask for one of these, or "
                "export the model with it.",
                grpc.StatusCode.FAILED_PRECONDITION,
            )
        request = messages.PredictRequest()
        self._fill_spec(request.model_spec)
        request.model_spec.signature_name = signature_name
        for name, array in build(signature).items():
            tensors.encode(array, request.inputs[name])
        response = self._call(self._predict_call, request, deadline)
        if response.model_spec.version.value != metadata.version:
            self._known = None  # a new version answered: the next call reads its signatures
        return response

    def _call(self, method: Any, request: Any, deadline: float) -> Any:
        """One call, tried again while no server answers: safe, as no method changes anything."""
        pause = FIRST_BACKOFF
        while True:
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
            pause *= random.uniform(1, 1.5)  # clients of one fallen server come back one by one
            if code != grpc.StatusCode.UNAVAILABLE or time.monotonic() + pause >= deadline:
                raise self._error(code, details)
            time.sleep(pause)
            pause = min(2 * pause, LAST_BACKOFF)

    def _error(self, code: grpc.StatusCode, details: str) -> ServingError:
        if code == grpc.StatusCode.UNAVAILABLE:
            return Unavailable(
                f"no server answers at {self.address} ({details}). Start one with "
                "`tfrec-meta serve`, or give the right `address`.",
                parameters=("address",),
            )
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"no answer from {self.address} within the timeout of "
                f"{self.timeout:g} s. Raise `timeout`, or ask for less at once.",
                parameters=("timeout",),
            )
        if code == grpc.StatusCode.NOT_FOUND:
            return ModelNotFound(
                f"the server at {self.address} does not have what was asked: "
                f"{details}. Check `model`={self.model!r}"
                + (f" and `version`={self.version}." if self.version else "."),
                parameters=(
                    "model",
                    "version",
                ),
            )
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return InvalidRequest(
                f"the server at {self.address} refused the request: {details}. "
                "Compare it with `Client.metadata()`.",
                code,
            )
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ServingError(
                f"too much at once for {self.address}: {details}. Send smaller "
                "requests, or fewer at the same time.",
                code,
            )
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return ServingError(
                f"the server at {self.address} does not speak TF Serving's API: "
                f"{details}. Check `address`.",
                code,
            )
        return ServingError(
            f"{code.name} from {self.address}: {details}. The server's log may say more.", code
        )


def _credentials(tls: Any) -> grpc.ChannelCredentials:
    if tls is True:
        return grpc.ssl_channel_credentials()
    if isinstance(tls, grpc.ChannelCredentials):
        return tls
    return grpc.ssl_channel_credentials(Path(tls).read_bytes())


def _output(response: Any, name: str) -> np.ndarray:
    if name not in response.outputs:
        raise ServingError(
            f"the answer has {sorted(response.outputs)}, but no {name!r}: the model "
            "was not exported by tfrec-meta."
        )
    return tensors.decode(response.outputs[name])
