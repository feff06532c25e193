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

from tfrec_meta.export import signatures as names
from tfrec_meta.serving import messages, protocol, tensors
from tfrec_meta.serving.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ServingError,
    Unavailable,
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
class TensorInfo:
    """dtype as NumPy names it ("string" for text); shape with None for what is not fixed, None if unknown."""

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What one signature takes and gives. Inputs with a default (one row) may be left out."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    defaults: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ModelMetadata:
    """The served version and its signatures."""

    name: str
    version: int
    signatures: Mapping[str, Signature]


@dataclass(frozen=True)
class VersionStatus:
    """State of one version: "AVAILABLE" if it answers; `error` says why one has failed."""

    version: int
    state: str
    error: str = ""


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

    def __init__(self, address: str = f"127.0.0.1:{protocol.DEFAULT_PORT}", model: str = "movies",
                 version: int | None = None, label: str | None = None, *, timeout: float = 5.0,
                 tls: bool | str | os.PathLike[str] | grpc.ChannelCredentials = False,
                 insecure: bool = False, max_message_bytes: int = protocol.MAX_MESSAGE_BYTES):
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isdigit()):
            raise ValueError(f"`address`={address!r}; give host:port, as 127.0.0.1:8500.")
        if version is not None and label is not None:
            raise ValueError(f"`version`={version} and `label`={label!r}; give one of them.")
        if not timeout > 0:
            raise ValueError(f"`timeout`={timeout}; give the seconds that a call may take.")
        local = protocol.is_loopback(host)
        if tls is False and not local and not insecure:
            raise ValueError(f"`address`={address!r} is another machine, and requests tell what "
                             "people like. Give `tls`, or `insecure=True` for a trusted network.")
        self.address, self.model, self.timeout = address, model, timeout
        self.version, self.label = version, label
        options = [*protocol.channel_options(max_message_bytes),
                   ("grpc.initial_reconnect_backoff_ms", int(FIRST_BACKOFF * 1000)),
                   ("grpc.max_reconnect_backoff_ms", int(LAST_BACKOFF * 1000))]
        if local:  # an http_proxy in the environment is not meant for this machine
            options.append(("grpc.enable_http_proxy", 0))
        if tls is False:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, _credentials(tls), options)
        self._predict_call = self._method(
            protocol.PREDICTION_SERVICE, "Predict", messages.PredictResponse)
        self._metadata_call = self._method(
            protocol.PREDICTION_SERVICE, "GetModelMetadata", messages.GetModelMetadataResponse)
        self._status_call = self._method(
            protocol.MODEL_SERVICE, "GetModelStatus", messages.GetModelStatusResponse)
        self._known: ModelMetadata | None = None

    def _method(self, service: str, name: str, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/{service}/{name}", request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    # What people ask.

    @overload
    def recommend(self, user_id: str = ..., history: Ids = ..., exclude: Ids = ..., k: int = ...,
                  **features: Any) -> list[Recommendation]: ...

    @overload
    def recommend(self, user_id: Users, history: Sequence[Ids] = ...,
                  exclude: Sequence[Ids] = ..., k: int | Sequence[int] = ...,
                  **features: Any) -> list[list[Recommendation]]: ...

    def recommend(self, user_id: Any = "", history: Any = (), exclude: Any = (), k: Any = 10,
                  **features: Any) -> Any:
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
        single, users = _rows_of_ids("user_id", user_id)
        rows = len(users)
        if rows == 0:
            return []
        given = {names.USER_ID: users, names.K: _counts(k, rows, single)}
        histories = _lists_of_ids(names.HISTORY, history, rows, single)
        excluded = _lists_of_ids(names.EXCLUDE, exclude, rows, single)

        def build(signature: Signature) -> dict[str, np.ndarray]:
            inputs = dict(given)
            inputs.update(_side_inputs(signature, histories, excluded))
            return _complete(signature, inputs, features, rows, single)

        answer = self._predict(names.RECOMMEND, build, self._deadline())
        per_user = [
            [Recommendation(item.decode(), float(score))
             for item, score in zip(items, scores, strict=True) if item]
            for items, scores in zip(_output(answer, names.ITEM_ID), _output(answer, names.SCORE),
                                     strict=True)]
        return per_user[0] if single else per_user

    @overload
    def rank(self, user_id: str, item_ids: Ids, history: Ids = ...,
             **features: Any) -> list[Recommendation]: ...

    @overload
    def rank(self, user_id: Users, item_ids: Ids | Sequence[Ids], history: Sequence[Ids] = ...,
             **features: Any) -> list[list[Recommendation]]: ...

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
        single, users = _rows_of_ids("user_id", user_id)
        rows = len(users)
        if not single and _depth(item_ids) == 1 and len(item_ids):
            item_ids = [item_ids] * rows
        candidates = _lists_of_ids("item_ids", item_ids, rows, single, blanks=True)
        histories = _lists_of_ids(names.HISTORY, history, rows, single)
        longest = max(map(len, candidates), default=0)
        scores: list[list[float]] = [[] for _ in range(rows)]
        deadline = self._deadline()
        done = 0
        while done < longest:
            width = 0

            def build(signature: Signature) -> dict[str, np.ndarray]:
                nonlocal width
                width = _width(signature.outputs.get(names.SCORE)) or longest
                part = _padded([ids[done:done + width] for ids in candidates], width)
                inputs = {names.USER_ID: users, names.ITEM_ID: part}
                inputs.update(_side_inputs(signature, histories, None))
                return _complete(signature, inputs, features, rows, single)

            answer = _output(self._predict(names.RANK, build, deadline), names.SCORE)
            for row, ids in enumerate(candidates):
                scores[row].extend(answer[row, :len(ids[done:done + width])].tolist())
            done += width
        per_user = [
            sorted(map(Recommendation, ids, of_user), key=lambda item: -item.score)
            for ids, of_user in zip(candidates, scores, strict=True)]
        return per_user[0] if single else per_user

    def rank_examples(self, examples: Sequence[bytes | Mapping[str, Any]]) -> np.ndarray:
        """float32 [B]: scores of queries with one item each, given as tf.Examples or as mappings."""
        serialised = np.empty(len(examples), np.object_)
        serialised[:] = [e if isinstance(e, bytes) else messages.example(e) for e in examples]
        answer = self._predict(names.RANK_EXAMPLES, lambda _: {names.EXAMPLES: serialised},
                               self._deadline())
        return _output(answer, names.SCORE)

    def embed_query(self, user_id: str | Users = "", history: Any = (),
                    **features: Any) -> np.ndarray:
        """float32 [d] for one user, [B, d] for several. Arguments and errors as of `recommend`."""
        single, users = _rows_of_ids("user_id", user_id)
        histories = _lists_of_ids(names.HISTORY, history, len(users), single)

        def build(signature: Signature) -> dict[str, np.ndarray]:
            inputs = {names.USER_ID: users, **_side_inputs(signature, histories, None)}
            return _complete(signature, inputs, features, len(users), single)

        answer = _output(self._predict(names.EMBED_QUERY, build, self._deadline()), names.EMBEDDING)
        return answer[0] if single else answer

    def embed_item(self, **features: Any) -> np.ndarray:
        """float32 [d] of one item, [B, d] of several.

        Args:
            features: the item's features by name (`item_id` and the spec's own; see `metadata()`); of
                several items a list each, or one value for all.

        Raises:
            InvalidRequest, ServingError: as `recommend`.
        """
        single = True

        def build(signature: Signature) -> dict[str, np.ndarray]:
            nonlocal single
            lengths = {name: len(value) for name, value in features.items()
                       if _depth(value) >= _rank(signature, name)}
            single = not lengths
            rows = 1 if single else next(iter(lengths.values()))
            return _complete(signature, {}, features, rows, single)

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
                raise DeadlineExceeded(f"model {self.model!r} at {self.address} was not ready "
                                       f"within {timeout:g} s; {last}")
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
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec)
        response = self._call(self._metadata_call, request, deadline)
        signature_map = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        self._known = ModelMetadata(
            response.model_spec.name, response.model_spec.version.value,
            {name: _signature(signature)
             for name, signature in sorted(signature_map.signature_def.items())})
        return self._known

    def _read_status(self, deadline: float) -> list[VersionStatus]:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        response = self._call(self._status_call, request, deadline)
        states = messages.GetModelStatusResponse.DESCRIPTOR.file.message_types_by_name[
            "ModelVersionStatus"].enum_types_by_name["State"].values_by_number
        return sorted((VersionStatus(status.version, states[status.state].name,
                                     status.status.error_message)
                       for status in response.model_version_status),
                      key=lambda status: -status.version)

    def _predict(self, signature_name: str, build: Callable[[Signature], dict[str, np.ndarray]],
                 deadline: float) -> Any:
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

    def _predict_as(self, metadata: ModelMetadata, signature_name: str,
                    build: Callable[[Signature], dict[str, np.ndarray]], deadline: float) -> Any:
        signature = metadata.signatures.get(signature_name)
        if signature is None:
            raise InvalidRequest(
                f"version {metadata.version} of model {metadata.name!r} has no signature "
                f"{signature_name!r}, only {sorted(metadata.signatures)}. Ask for one of these, or "
                "export the model with it.", grpc.StatusCode.FAILED_PRECONDITION)
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
        """One call, tried again while no server answers. Every method asks only, so this is safe."""
        pause = FIRST_BACKOFF
        while True:
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
            pause *= random.uniform(1, 1.5)  # clients of one fallen server come back one by one
            if (code != grpc.StatusCode.UNAVAILABLE or time.monotonic() + pause >= deadline):
                raise self._error(code, details)
            time.sleep(pause)
            pause = min(2 * pause, LAST_BACKOFF)

    def _error(self, code: grpc.StatusCode, details: str) -> ServingError:
        if code == grpc.StatusCode.UNAVAILABLE:
            return Unavailable(f"no server answers at {self.address} ({details}). Start one with "
                               "`tfrec-meta serve`, or give the right `address`.")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"no answer from {self.address} within the timeout of "
                                    f"{self.timeout:g} s. Raise `timeout`, or ask for less at once.")
        if code == grpc.StatusCode.NOT_FOUND:
            return ModelNotFound(f"the server at {self.address} does not have what was asked: "
                                 f"{details}. Check `model`={self.model!r}"
                                 + (f" and `version`={self.version}." if self.version else "."))
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return InvalidRequest(f"the server at {self.address} refused the request: {details}. "
                                  "Compare it with `Client.metadata()`.", code)
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ServingError(f"too much at once for {self.address}: {details}. Send smaller "
                                "requests, or fewer at the same time.", code)
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return ServingError(f"the server at {self.address} does not speak TF Serving's API: "
                                f"{details}. Check `address`.", code)
        return ServingError(f"{code.name} from {self.address}: {details}. The server's log may say "
                            "more.", code)


def _credentials(tls: Any) -> grpc.ChannelCredentials:
    if tls is True:
        return grpc.ssl_channel_credentials()
    if isinstance(tls, grpc.ChannelCredentials):
        return tls
    return grpc.ssl_channel_credentials(Path(tls).read_bytes())


def _signature(proto: Any) -> Signature:
    return Signature({name: _tensor_info(info) for name, info in sorted(proto.inputs.items())},
                     {name: _tensor_info(info) for name, info in sorted(proto.outputs.items())},
                     {name: tensors.decode(value) for name, value in sorted(proto.defaults.items())})


def _tensor_info(proto: Any) -> TensorInfo:
    shape = None
    if not proto.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in proto.tensor_shape.dim)
    return TensorInfo(tensors.dtype_name(proto.dtype), shape)


def _output(response: Any, name: str) -> np.ndarray:
    if name not in response.outputs:
        raise ServingError(f"the answer has {sorted(response.outputs)}, but no {name!r}: the model "
                           "was not exported by tfrec-meta.")
    return tensors.decode(response.outputs[name])


# From what people give to tensors.


def _depth(value: Any) -> int:
    """0 for a value, 1 for a list of values, 2 for a list of lists."""
    if isinstance(value, np.ndarray):
        return value.ndim
    if isinstance(value, list | tuple):
        return 1 + max((_depth(each) for each in value), default=0)
    return 0


def _check_id(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` holds {value!r}, but ids are text: give {str(value)!r}.")
    return value


def _rows_of_ids(name: str, value: Any) -> tuple[bool, np.ndarray]:
    """Whether one id was given, and the ids, object [B]."""
    single = _depth(value) == 0
    ids = np.empty(1 if single else len(value), np.object_)
    ids[:] = [_check_id(name, each) for each in ([value] if single else value)]
    return single, ids


def _lists_of_ids(name: str, value: Any, rows: int, single: bool,
                  blanks: bool = False) -> list[list[str]]:
    """One list of ids a row; "" is padding and left out, unless `blanks`."""
    if isinstance(value, str | bytes):
        raise InvalidRequest(f"`{name}`={value!r} is one id; give a list of ids.")
    lists = [value] if single else list(value) or [()] * rows
    if len(lists) != rows or any(isinstance(each, str | bytes) for each in lists):
        raise InvalidRequest(f"`{name}` has {len(lists)} entries for {rows} users; give one list of "
                             "ids for each user.")
    return [[item for item in (_check_id(name, each) for each in row) if item or blanks]
            for row in lists]


def _counts(k: Any, rows: int, single: bool) -> np.ndarray:
    values = [k] * rows if _depth(k) == 0 else list(k)
    if len(values) != rows or (single and _depth(k)):
        raise InvalidRequest(f"`k`={k!r} for {rows} users; give one number for all, or one each.")
    for each in values:
        if (isinstance(each, bool) or not isinstance(each, int | np.integer)
                or not 1 <= each < 2**31):
            raise InvalidRequest(f"`k`={each!r}; ask for a whole number of items, 1 or more.")
    return np.asarray(values, np.int32)


def _padded(lists: list[list[str]], width: int) -> np.ndarray:
    array = np.full((len(lists), width), names.PADDING, np.object_)
    for row, values in enumerate(lists):
        array[row, :len(values)] = values
    return array


def _width(info: TensorInfo | None) -> int | None:
    if info is None or info.shape is None or len(info.shape) != 2:
        return None
    return info.shape[1]


def _side_inputs(signature: Signature, histories: list[list[str]],
                 excluded: list[list[str]] | None) -> dict[str, np.ndarray]:
    """`history` and `exclude` at the exported widths, where the signature takes them."""
    inputs = {}
    for name, lists in ((names.HISTORY, histories), (names.EXCLUDE, excluded)):
        if lists is None:
            continue
        longest = max(map(len, lists), default=0)
        if name not in signature.inputs:
            if longest:
                raise InvalidRequest(f"the model takes no `{name}`; leave it out.")
            continue
        default = signature.defaults.get(name)
        width = _width(signature.inputs[name]) if default is None else default.shape[1]
        width = longest if width is None else width
        if name == names.HISTORY:
            lists = [row[len(row) - min(len(row), width):] for row in lists]
        elif longest > width:
            raise InvalidRequest(f"`{name}` has {longest} items, but the model was exported for "
                                 f"{width}. Send fewer, or export it with a greater width.")
        inputs[name] = _padded(lists, width)
    return inputs


def _rank(signature: Signature, name: str) -> int:
    """Rank of an input with its batch dimension. The exporter leaves it unknown: see its default."""
    if name in signature.defaults:
        return signature.defaults[name].ndim
    info = signature.inputs.get(name)
    return 1 if info is None or info.shape is None else len(info.shape)


def _complete(signature: Signature, inputs: dict[str, np.ndarray], features: Mapping[str, Any],
              rows: int, single: bool) -> dict[str, np.ndarray]:
    """All inputs of the signature: the given ones, the features, and the defaults for the rest."""
    inputs = {name: array for name, array in inputs.items() if name in signature.inputs}
    free = sorted(set(signature.inputs) - set(inputs))
    unknown = sorted(set(features) - set(free))
    if unknown:
        raise InvalidRequest(f"the model has no feature {', '.join(map(repr, unknown))} here. It "
                             f"takes {free}.")
    for name in free:
        if name in features:
            inputs[name] = _feature(signature, name, features[name], rows, single)
        elif name in signature.defaults:
            inputs[name] = np.repeat(signature.defaults[name], rows, axis=0)
        else:
            raise InvalidRequest(f"the model needs `{name}` "
                                 f"({signature.inputs[name].dtype}); give it by name.")
    return inputs


def _feature(signature: Signature, name: str, value: Any, rows: int, single: bool) -> np.ndarray:
    """One feature's tensor, of its dtype, with a row for each user or item."""
    rank, dtype = _rank(signature, name), signature.inputs[name].dtype
    if single or _depth(value) < rank:
        value = [value] * rows
    if len(value) != rows:
        raise InvalidRequest(f"`{name}` has {len(value)} entries for {rows} rows; give one for all, "
                             "or one each.")
    shape = signature.defaults[name].shape if name in signature.defaults else None
    width = shape[1] if shape is not None and rank == 2 else None
    if dtype == "string":
        if rank == 2:
            lists = _lists_of_ids(name, value, rows, single=False, blanks=True)
            longest = max(map(len, lists), default=0)
            if width is not None and longest > width:
                raise InvalidRequest(f"`{name}` has {longest} values, but the model was exported "
                                     f"for {width}. Send fewer.")
            return _padded(lists, longest if width is None else width)
        array = np.empty(rows, np.object_)
        array[:] = [_check_id(name, each) for each in value]
        return array
    try:
        numbers = np.asarray(value)
        array = numbers.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(f"`{name}`={value!r}, but the model needs {dtype}: {error}.") from error
    if numbers.dtype.kind not in "biuf" or (
            np.dtype(dtype).kind in "biu" and not np.array_equal(array, numbers)):
        raise InvalidRequest(f"`{name}`={value!r}, but the model needs {dtype}. Give such numbers.")
    if array.ndim != rank or (width is not None and array.shape[1] != width):
        raise InvalidRequest(f"`{name}` has the shape {list(array.shape)}, but the model needs "
                             f"{[rows] if width is None else [rows, width]}.")
    return array
