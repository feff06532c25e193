"""The client and the toy recommender: answers, padding, and refused requests."""

import socket
import threading
import time

import grpc
import numpy as np
import pytest

from tfrec_meta.serving import (
    Client,
    DeadlineExceeded,
    InvalidRequest,
    LocalServer,
    ModelNotFound,
    Recommendation,
    ServingError,
    Unavailable,
)

ALL = ["m1", "m2", "m3", "m4", "m5", "m6"]


def _ids(recommendations):
    return [each.item_id for each in recommendations]


def _expected(toy_movies, user_id="", history=(), exclude=(), k=10, mood=0.0):
    """The answer of the toy recommender, computed with NumPy."""
    scores = toy_movies.expected_scores(user_id, history, mood)
    best = sorted(
        (item for item in ALL if item not in {*history, *exclude}),
        key=lambda item: -scores[ALL.index(item)],
    )
    return [(item, pytest.approx(scores[ALL.index(item)])) for item in best[:k]]


def _pairs(recommendations):
    return [(each.item_id, each.score) for each in recommendations]


# recommend


def test_recommends_popular_items_without_a_user(client):
    assert client.recommend(k=3) == [
        Recommendation("m1", pytest.approx(0.6)),
        Recommendation("m2", pytest.approx(0.5)),
        Recommendation("m3", pytest.approx(0.4)),
    ]


def test_sends_user_history_exclusions_and_features(client, toy_movies):
    given = {"user_id": "u1", "history": ["m2", "m3"], "exclude": ["m4"], "k": 4, "mood": 9.5}
    assert _pairs(client.recommend(**given)) == _expected(toy_movies, **given)


def test_returns_one_list_per_user_with_its_own_k(client, toy_movies):
    answers = client.recommend(
        ["u1", "nobody", "u1"],
        history=[["m2"], [], ["m1", "m3", "m5"]],
        exclude=[[], ["m1"], []],
        k=[2, 1, 6],
        mood=[0.0, 1.0, 0.0],
    )
    assert [_pairs(answer) for answer in answers] == [
        _expected(toy_movies, "u1", ["m2"], k=2),
        _expected(toy_movies, "nobody", exclude=["m1"], k=1, mood=1.0),
        _expected(toy_movies, "u1", ["m1", "m3", "m5"], k=6),
    ]
    assert list(map(len, answers)) == [2, 1, 3]


def test_returns_nothing_for_no_users(client):
    assert client.recommend([]) == []


def test_returns_the_catalogue_for_a_larger_k(client):
    assert _ids(client.recommend(k=1000)) == ALL


def test_cuts_a_long_history_to_its_latest_items(client, toy_movies):
    history = ["m2", "m2", "m1", "m3", "m1", "m3"]  # the width is 4: both m2 are cut
    assert _pairs(client.recommend(history=history)) == _expected(toy_movies, history=history[-4:])


def test_ignores_blank_items_of_a_history(client, toy_movies):
    assert _pairs(client.recommend(history=["m2", "", "", "", "", "m1"])) == _expected(
        toy_movies, history=["m2", "m1"]
    )


def test_accepts_unknown_items(client, toy_movies):
    assert _pairs(client.recommend(history=["zzz"], exclude=["yyy"])) == _expected(toy_movies)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"k": 0}, "`k`=0.*1 or more"),
        ({"k": -3}, "`k`=-3"),
        ({"k": 2.5}, "`k`=2.5"),
        ({"k": True}, "`k`=True"),
        ({"k": 2**40}, "`k`="),
        ({"user_id": ["a", "b"], "k": [1]}, "`k`.*2 users"),
        ({"user_id": 42}, "`user_id`.*'42'"),
        ({"history": "m1"}, "`history`='m1' is one id"),
        ({"history": [1, 2]}, "`history` has 1, but ids are text"),
        ({"user_id": ["a", "b"], "history": ["m1", "m2"]}, "`history`.*each user"),
        ({"user_id": ["a", "b"], "history": [["m1"]]}, "`history` has 1 entries for 2 users"),
        ({"exclude": ALL}, "`exclude` has 6 items.*exported for 3"),
        ({"colour": "red"}, "no feature 'colour'.*mood"),
        ({"mood": "happy"}, "`mood`='?.*float32"),
        ({"mood": [1.0, 2.0]}, "`mood`.*shape"),
        ({"user_id": ["a", "b"], "mood": [1.0]}, "`mood` has 1 entries for 2"),
    ],
)
def test_refuses_an_invalid_request_before_sending(client, given, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        client.recommend(**given)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(caught.value, ValueError)


# rank, rank_examples, embeddings


def test_rank_sorts_the_given_items(client, toy_movies):
    scores = toy_movies.expected_scores("u1", ["m4"], 0.0)
    assert _pairs(client.rank("u1", ["m1", "m2", "m6"], history=["m4"])) == [
        ("m2", pytest.approx(scores[1])),
        ("m6", pytest.approx(scores[5])),
        ("m1", pytest.approx(scores[0])),
    ]


def test_rank_sends_many_candidates_in_parts(client, toy_movies):
    scores = toy_movies.expected_scores("u1", [])
    wanted = ["m5", "m1", "zzz", "m2", "m3", "m6", "m4", "m1", "yyy"]  # width 4: three parts
    answer = client.rank("u1", wanted)
    assert sorted(_ids(answer)) == sorted(wanted)
    assert answer[-2:] == [Recommendation("zzz", -1.0), Recommendation("yyy", -1.0)]
    for each in answer[:-2]:
        assert each.score == pytest.approx(scores[ALL.index(each.item_id)])
    assert [each.score for each in answer] == sorted((each.score for each in answer), reverse=True)


def test_rank_for_several_users(client):
    shared = client.rank(["u1", ""], ["m1", "m2"])
    assert [_ids(answer) for answer in shared] == [["m2", "m1"], ["m1", "m2"]]
    own = client.rank(["u1", ""], [["m1", "m2", "m3", "m4", "m5"], ["m6"]], history=[[], ["m2"]])
    assert [_ids(answer) for answer in own] == [["m2", "m4", "m1", "m3", "m5"], ["m6"]]


def test_rank_returns_nothing_for_no_items(client):
    assert client.rank("u1", []) == []
    assert client.rank(["u1", "u2"], []) == [[], []]


def test_rank_examples_takes_mappings_and_serialised_examples(client, toy_movies):
    from tfrec_meta.serving.protocol import messages

    scores = client.rank_examples(
        [{"user_id": "u1", "item_id": "m2"}, messages.example({"item_id": "m1", "mood": 2.0})]
    )
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [5.5, 2.6], rtol=1e-6)


def test_returns_embeddings_of_one_and_of_several(client, toy_movies):
    np.testing.assert_array_equal(client.embed_query("u1", ["m1"]), [1, 5])
    np.testing.assert_array_equal(
        client.embed_query(["u1", ""], [["m1"], []], mood=2.0), [[3, 5], [2, 0]]
    )
    np.testing.assert_array_equal(client.embed_item(item_id="m2"), [0, 1])
    np.testing.assert_array_equal(client.embed_item(image=[0.5, 2]), [0.5, 2])
    np.testing.assert_array_equal(
        client.embed_item(item_id=["m1", "new"], image=[[0, 0], [7, 8]]), [[1, 0], [7, 8]]
    )
    with pytest.raises(InvalidRequest, match=r"`image` has the shape \[1, 3\].*\[1, 2\]"):
        client.embed_item(image=[1, 2, 3])


# metadata, status, reload


def test_metadata_has_widths_and_defaults(client, toy_movies):
    metadata = client.metadata()
    assert (metadata.name, metadata.version) == ("movies", 3)
    recommend = metadata.signatures["recommend"]
    assert recommend.inputs["history"].dtype == "string"
    assert recommend.defaults["history"].shape == (1, toy_movies.HISTORY_WIDTH)
    assert metadata.signatures["rank"].outputs["score"].shape == (None, toy_movies.CANDIDATES)
    assert [status.state for status in client.status()] == ["AVAILABLE"]


def test_reads_the_signatures_of_a_new_version_with_another_width(
    toy_movies, movies_base, tmp_path
):
    import shutil

    base = tmp_path / "movies"
    shutil.copytree(movies_base, base)
    with LocalServer(base) as server, Client(server.address, timeout=20) as client:
        history = ["m1", "m2", "m3", "m1", "m3", "m5"]
        assert _pairs(client.recommend(history=history)) == _expected(
            toy_movies, history=history[-4:]
        )
        toy_movies.save(base / "4", history_width=6)
        server.servables.refresh()
        assert _pairs(client.recommend(history=history)) == _expected(toy_movies, history=history)
        assert client._known.version == 4


# errors


def test_errors_for_an_unknown_model_version_or_label_name_it(movies_server):
    for options, error, message in (
        ({"model": "books"}, ModelNotFound, "`model`='books'"),
        ({"version": 9}, ModelNotFound, "`version`=9"),
        ({"label": "nope"}, InvalidRequest, "nope"),
    ):
        with (
            Client(movies_server.address, **options) as client,
            pytest.raises(error, match=message) as caught,
        ):
            client.recommend()
        assert isinstance(caught.value, ServingError)


def test_names_a_signature_that_the_model_lacks(recorded_server):
    with (
        Client(recorded_server.address, "toy", version=1) as client,
        pytest.raises(InvalidRequest, match="no signature 'recommend', only") as caught,
    ):
        client.recommend()
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION


def test_raises_unavailable_without_a_server_after_the_timeout():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with (
        Client(address, timeout=0.5) as client,
        pytest.raises(Unavailable, match=r"no server answers.*tfrec-meta serve"),
    ):
        client.recommend()
    assert time.monotonic() - began < 2


def test_raises_deadline_exceeded_if_the_server_does_not_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with (
            Client(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.3) as client,
            pytest.raises(DeadlineExceeded, match="`timeout`"),
        ):
            client.status()


def test_retries_a_call_until_the_server_is_up(movies_base):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = LocalServer(movies_base, port=port)
    starter = threading.Timer(0.5, server.start)
    starter.start()
    try:
        with Client(server.address, timeout=20) as client:
            assert _ids(client.recommend(k=1)) == ["m1"]
    finally:
        starter.join()
        server.stop()


def test_wait_until_ready_returns_or_raises_with_the_last_state(movies_server):
    with Client(movies_server.address) as client:
        client.wait_until_ready(20)
    with (
        Client(movies_server.address, "books") as client,
        pytest.raises(DeadlineExceeded, match=r"not ready within 0\.2 s.*books"),
    ):
        client.wait_until_ready(0.2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"address": "localhost"}, "host:port"),
        ({"address": "10.0.0.1:8500"}, "another machine"),
        ({"address": "models.example:8500"}, "another machine"),
        ({"version": 1, "label": "stable"}, "only one of them"),
        ({"timeout": 0}, "`timeout`=0"),
    ],
)
def test_refuses_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        Client(**options)


def test_connects_to_another_machine_with_tls_or_insecure():
    Client("10.0.0.1:8500", insecure=True).close()
    Client("10.0.0.1:8500", tls=True).close()
    Client("[::1]:8500").close()


# with TensorFlow in the same process


def test_the_messages_of_client_and_tensorflow_are_separate(movies_server, client):
    # TensorFlow is imported first here; test_server has the other order.
    from tensorflow_serving.apis import predict_pb2

    from tfrec_meta.serving.protocol import messages

    sent = messages.PredictRequest()
    sent.model_spec.version_label = "é"
    assert predict_pb2.PredictRequest is not messages.PredictRequest
    received = predict_pb2.PredictRequest.FromString(sent.SerializeToString())
    assert received.model_spec.version_label == "é"
