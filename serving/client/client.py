"""Requests recommendations from a served model over TF Serving's gRPC API, without TensorFlow.

The client reads the signatures of the model once. It pads requests to the widths fixed at export,
and always sends the optional inputs, because a batching server joins only requests of equal width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, overload

import grpc
import numpy as np

from tfrec_meta.export import signatures as names
from tfrec_meta.serving.client import answers, inputs
from tfrec_meta.serving.client.answers import Adapted, Recommendation
from tfrec_meta.serving.client.connection import FIRST_BACKOFF, LAST_BACKOFF, Connection, Tls
from tfrec_meta.serving.protocol import messages
from tfrec_meta.serving.protocol import names as protocol
from tfrec_meta.serving.protocol.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Unavailable,
)
from tfrec_meta.serving.protocol.metadata import AVAILABLE, ModelMetadata, Signature, VersionStatus

Ids = Sequence[str]
Users = list[str] | tuple[str, ...] | np.ndarray
BuildInputs = Callable[[Signature], dict[str, np.ndarray]]


class Client:
    """A client of one served model; safe to share between threads.

    Args:
        address: host:port of the server.
        model: name of the model on the server.
        version: a version number; by default the latest version.
        label: a version label instead of a version number.
        timeout: seconds that a call may take in total, retries and all parts included.
        tls: True for TLS with the public certificate authorities, the path of a PEM file with
            another authority, or `grpc.ChannelCredentials`.
        insecure: allows another machine without TLS.
        max_message_bytes: size limit of a request and of a response.

    Raises:
        ParameterError: for an invalid address, contradicting options, and another machine
            without TLS.

    Example:
        >>> from tfrec_meta.serving import Client
        >>> with Client("127.0.0.1:8500", "movies") as client:
        ...     print(client.address, client.model)
        127.0.0.1:8500 movies
    """

    def __init__(
        self,
        address: str = f"127.0.0.1:{protocol.DEFAULT_PORT}",
        model: str = "movies",
        version: int | None = None,
        label: str | None = None,
        *,
        timeout: float = 5.0,
        tls: Tls = False,
        insecure: bool = False,
        max_message_bytes: int = protocol.MAX_MESSAGE_BYTES,
    ):
        self._connection = Connection(
            address,
            model,
            version,
            label,
            timeout=timeout,
            tls=tls,
            insecure=insecure,
            max_message_bytes=max_message_bytes,
        )
        self.address, self.model, self.timeout = address, model, timeout
        self.version, self.label = version, label
        self._known: ModelMetadata | None = None

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Requests.

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
        """Returns the best items for one user, or for each of several users.

        Args:
            user_id: an id, or a list of ids. An unknown id and "" (no user) are valid.
            history: item ids, oldest first. Of a history longer than the exported width, the latest
                items are used. For several users: one list per user.
            exclude: item ids to leave out of the answer, in addition to the history. For several
                users: one list per user.
            k: number of items; the model's own limit and the catalogue cap it. For several users:
                one number for all, or one per user.
            features: further user and context features of the model by name; see `metadata()`. For
                several users: one value for all, or one per user.

        Returns:
            Recommendations, best first; for several users a list of such lists.

        Raises:
            InvalidRequest: if the model does not accept the request.
            ServingError: if there is no answer; see its subclasses.
        """
        side = inputs.UserSide.of(user_id, history, features, exclude)
        rows = len(side.users)
        if rows == 0:
            return []
        counts = inputs.counts(k, rows, side.single)
        response = self._predict(
            names.RECOMMEND,
            lambda signature: side.tensors(signature, **{names.K: counts}),
            self._deadline(),
        )
        per_user = answers.recommendations(response, rows)
        return per_user[0] if side.single else per_user

    def adapt(
        self,
        support: Sequence[Ids | Mapping[str, float | None]],
        exclude: Sequence[Ids] = (),
        k: int | Sequence[int] = 10,
        **features: Any,
    ) -> list[Adapted]:
        """Returns the best items for new users, from a few items that each of them chose.

        Args:
            support: one entry per new user: ids of chosen items, or labels by item id, from 0
                (disliked) to 1 (chosen), or ratings for a model of ratings. The label None means
                liked, as an id without a label does. Ids outside the catalogue are ignored.
            exclude: one entry per new user: item ids to leave out of the answer, in addition to the
                support set.
            k: as for `recommend`.
            features: features of the new users by name, one value per user, for a model that adapts
                by features. A feature that is left out is unknown.

        Returns:
            One answer per new user, best items first.

        Raises:
            InvalidRequest, ServingError: as for `recommend`.
        """
        if not len(support):
            return []
        counts = inputs.counts(k, len(support), single=False)
        response = self._predict(
            names.ADAPT,
            lambda signature: inputs.support_tensors(signature, support, exclude, counts, features),
            self._deadline(),
        )
        return answers.adapted(response, len(support))

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
        """Scores the given items for one user, or for each of several users.

        Args:
            user_id, history, features: as for `recommend`.
            item_ids: item ids, any number of them; the client sends them in parts of the exported
                width. For several users: one list for all, or one per user.

        Returns:
            All given items, best first (items with equal scores keep their order); for several
            users a list of such lists.

        Raises:
            InvalidRequest, ServingError: as for `recommend`.
        """
        side = inputs.UserSide.of(user_id, history, features)
        rows = len(side.users)
        if not side.single and inputs.depth(item_ids) == 1 and len(item_ids):
            item_ids = [item_ids] * rows
        candidates = inputs.lists_of_ids("item_ids", item_ids, rows, side.single, blanks=True)
        longest = max(map(len, candidates), default=0)
        deadline = self._deadline()

        def score_part(start: int) -> np.ndarray:
            """float32 [B, C]: the scores of the candidates from `start` on, of one call."""
            sent = 0

            def tensors_for(signature: Signature) -> dict[str, np.ndarray]:
                width = inputs.output_width(signature, names.SCORE) or longest
                nonlocal sent
                part = inputs.padded([ids[start : start + width] for ids in candidates], width)
                sent = part.shape[1]
                return side.tensors(signature, **{names.ITEM_ID: part})

            response = self._predict(names.RANK, tensors_for, deadline)
            scored = answers.numbers(response, names.SCORE, rows)
            if scored.shape[1] < sent:
                raise answers.damaged(f"it has {scored.shape[1]} scores for {sent} items")
            return scored

        parts: list[np.ndarray] = []
        done = 0
        while done < longest:
            parts.append(score_part(done))
            done += parts[-1].shape[1]
        scores = np.concatenate(parts, axis=1) if parts else np.empty((rows, 0), np.float32)
        per_user = [answers.ranking(*row) for row in zip(candidates, scores, strict=True)]
        return per_user[0] if side.single else per_user

    def rank_examples(self, examples: Sequence[bytes | Mapping[str, Any]]) -> np.ndarray:
        """Returns float32 [B], the scores of queries with one item each.

        Args:
            examples: serialised tf.Examples, or mappings of names to values. A tf.Example has
                separate types for whole numbers and floats: write the number 40 of a model's
                feature as 40.0.

        Raises:
            InvalidRequest, ServingError: as for `recommend`.
        """
        serialised = np.empty(len(examples), np.object_)
        serialised[:] = [e if isinstance(e, bytes) else messages.example(e) for e in examples]
        try:
            response = self._predict(
                names.RANK_EXAMPLES, lambda _: {names.EXAMPLES: serialised}, self._deadline()
            )
        except InvalidRequest as error:
            if "Data types don't match" not in str(error):  # TensorFlow's parser of examples
                raise
            raise InvalidRequest(
                f"{error} In an example write numbers as floats, 40.0 for 40.", error.code
            ) from error
        return answers.numbers(response, names.SCORE, len(examples), rank=1)

    def embed_query(
        self, user_id: str | Users = "", history: Any = (), **features: Any
    ) -> np.ndarray:
        """Returns float32 [d] for one user, [B, d] for several; see `recommend`."""
        side = inputs.UserSide.of(user_id, history, features)
        response = self._predict(names.EMBED_QUERY, side.tensors, self._deadline())
        embedding = answers.numbers(response, names.EMBEDDING, len(side.users))
        return embedding[0] if side.single else embedding

    def embed_item(self, **features: Any) -> np.ndarray:
        """Returns float32 [d] for one item, [B, d] for several.

        Args:
            features: `item_id` and the item features of the model by name; see `metadata()`. For
                several items: one list of values per feature, or one value for all.

        Raises:
            InvalidRequest, ServingError: as for `recommend`.
        """
        single, rows = True, 1

        def build(signature: Signature) -> dict[str, np.ndarray]:
            nonlocal single, rows
            lengths = {
                name: len(value)
                for name, value in features.items()
                if inputs.depth(value) >= inputs.input_rank(signature, name)
            }
            single = not lengths
            rows = 1 if single else next(iter(lengths.values()))
            return inputs.complete(signature, {}, features, rows, single)

        response = self._predict(names.EMBED_ITEM, build, self._deadline())
        embedding = answers.numbers(response, names.EMBEDDING, rows)
        return embedding[0] if single else embedding

    def metadata(self) -> ModelMetadata:
        """Returns the signatures of the version that answers now.

        Raises:
            ServingError: see its subclasses.
        """
        return self._read_metadata(self._deadline())

    def status(self) -> list[VersionStatus]:
        """Returns the state of all versions, newest first; of one version if `version` is set.

        Raises:
            ServingError: see its subclasses.
        """
        return self._connection.status(self._deadline())

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Waits until the model answers.

        Args:
            timeout: the longest time to wait, in seconds.

        Raises:
            DeadlineExceeded: if the model does not answer in time; the message has its last state.
        """
        deadline = time.monotonic() + timeout
        pause = FIRST_BACKOFF
        while True:
            try:
                states = self._connection.status(deadline)
                if any(status.state == AVAILABLE for status in states):
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

    # Signatures.

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _read_metadata(self, deadline: float) -> ModelMetadata:
        self._known = self._connection.metadata(deadline)
        return self._known

    def _predict(self, signature_name: str, build: BuildInputs, deadline: float) -> Any:
        """Runs a signature with the inputs that `build` makes for it.

        A refused request can mean that a new version with other widths or inputs is served since
        the signatures were read. In that case the signatures are read again, once.
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
        self, metadata: ModelMetadata, signature_name: str, build: BuildInputs, deadline: float
    ) -> Any:
        signature = metadata.signatures.get(signature_name)
        if signature is None:
            raise InvalidRequest(
                f"version {metadata.version} of model {metadata.name!r} has no signature "
                f"{signature_name!r}, only {sorted(metadata.signatures)}. Use one of these, or "
                "export a model that has it.",
                grpc.StatusCode.FAILED_PRECONDITION,
            )
        response = self._connection.predict(signature_name, build(signature), deadline)
        if response.model_spec.version.value != metadata.version:
            self._known = None  # a new version answered: the next call reads its signatures
        return response
