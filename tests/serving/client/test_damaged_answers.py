"""Whatever a server answers, the client returns a valid answer or raises a ServingError."""

import random
import socketserver
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest

from tfrec_meta.serving import Client, Recommendation, ServingError
from tfrec_meta.serving.protocol import messages, tensors
from tfrec_meta.serving.protocol.names import PREDICTION_SERVICE

CALLS = {
    "recommend": lambda client: client.recommend("u1", ["m2"], k=3),
    "recommend of two": lambda client: client.recommend(["u1", "u2"], [["m2"], []], k=3),
    "rank": lambda client: client.rank("u1", ["m1", "m2", "m3"]),
    "metadata": lambda client: client.metadata(),
    "status": lambda client: client.status(),
}


class FakeServer(grpc.GenericRpcHandler):
    """Answers each method with the bytes in `answers`."""

    def __init__(self):
        self.answers = {}
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, details):
        name = details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(lambda request, _: self.answers[name])

    def stop(self):
        self._server.stop(0)


@pytest.fixture(scope="module")
def fake():
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture
def recorded(movies_server, client):
    """The bytes that a real server answers, by method."""
    channel = grpc.insecure_channel(movies_server.address)

    def call(service, method, request):
        found = channel.unary_unary(f"/{service}/{method}")
        return found(request.SerializeToString(), timeout=10)

    metadata = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = client.model
    status = messages.GetModelStatusRequest()
    status.model_spec.name = client.model
    yield {
        "GetModelMetadata": call(PREDICTION_SERVICE, "GetModelMetadata", metadata),
        "GetModelStatus": call("tensorflow.serving.ModelService", "GetModelStatus", status),
        "Predict": answer().SerializeToString(),
    }
    channel.close()


def answer(ids=None, scores=None, **further):
    """A PredictResponse of `recommend` for one user, with other tensors where they are given."""
    response = messages.PredictResponse()
    ids = np.array([[b"m1", b"m3"]], object) if ids is None else ids
    scores = np.array([[0.5, 0.25]], np.float32) if scores is None else scores
    for name, array in {"item_id": ids, "score": scores, **further}.items():
        if array is not False:
            tensors.encode(array, response.outputs[name])
    return response


def ask(fake, call, **answers):
    fake.answers = answers
    with Client(f"127.0.0.1:{fake.port}", "movies", timeout=5) as client:
        return CALLS[call](client)


def test_the_fake_server_answers_as_the_real_one(fake, recorded):
    found = ask(fake, "recommend", **recorded)
    assert found == [Recommendation("m1", 0.5), Recommendation("m3", 0.25)]
    assert ask(fake, "status", **recorded)[0].state == "AVAILABLE"


TEXT = np.array([[b"m1", b"m3"]], object)
FLOATS = np.array([[0.5, 0.25]], np.float32)


@pytest.mark.parametrize(
    "response",
    [
        answer(ids=False),
        answer(scores=False),
        answer(ids=FLOATS),
        answer(scores=TEXT),
        answer(scores=np.array([[True, False]])),
        answer(scores=np.array([[1j, 2j]], np.complex64)),
        answer(ids=TEXT[:, :1]),
        answer(ids=TEXT[0], scores=FLOATS[0]),
        answer(ids=np.repeat(TEXT, 2, axis=0), scores=np.repeat(FLOATS, 2, axis=0)),
        answer(ids=TEXT[:0], scores=FLOATS[:0]),
        answer(ids=TEXT[None], scores=FLOATS[None]),
        answer(ids=np.array(b"m1", object), scores=np.float32(0.5)[()].reshape(())),
        answer(ids=np.array([[b"\xff\xfe", b"m3"]], object)),
        answer(scores=np.array([[np.nan, 0.25]], np.float32)),
        answer(scores=np.array([[np.inf, 0.25]], np.float32)),
        messages.PredictResponse(),
    ],
    ids=lambda response: "",
)
def test_an_answer_of_another_form_is_a_serving_error(fake, recorded, response):
    with pytest.raises(ServingError):
        ask(fake, "recommend", **{**recorded, "Predict": response.SerializeToString()})


def test_tensors_with_impossible_shapes_are_serving_errors(fake, recorded):
    for size in (-1, 2**62, 7):
        response = answer()
        response.outputs["score"].tensor_shape.dim[1].size = size
        response.outputs["score"].tensor_content = b"abc"
        with pytest.raises(ServingError):
            ask(fake, "recommend", **{**recorded, "Predict": response.SerializeToString()})


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"<html><body>404</body></html>", b'{"outputs":']
)
@pytest.mark.parametrize("method", ["GetModelMetadata", "Predict"])
def test_bytes_that_are_no_answer_are_serving_errors(fake, recorded, method, content):
    with pytest.raises(ServingError):
        ask(fake, "recommend", **{**recorded, method: content})


def damaged(content, rng):
    """The bytes with a few of them changed, cut, repeated or replaced by random ones."""
    content = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(content) or 1)
        action = rng.randrange(4)
        if action == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            del content[at:]
        elif action == 2:
            content[at:at] = content[at : at + rng.randrange(20)]
        else:
            content[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
    return bytes(content)


@pytest.mark.parametrize("call", CALLS)
def test_damaged_bytes_give_an_answer_or_a_serving_error(fake, recorded, call):
    rng = random.Random(call)
    for _ in range(60):
        answers = {name: damaged(content, rng) for name, content in recorded.items()}
        method = rng.choice(list(recorded))
        try:
            found = ask(fake, call, **{**recorded, method: answers[method]})
        except ServingError:
            continue
        if call == "recommend":
            assert all(isinstance(each, Recommendation) for each in found)


def test_an_http_server_is_a_serving_error():
    class Html(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html></html>")

    with socketserver.TCPServer(("127.0.0.1", 0), Html) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Client(f"127.0.0.1:{server.server_address[1]}", "movies", timeout=0.5)
        with client, pytest.raises(ServingError):
            client.recommend("u1")
        server.shutdown()


def test_a_closed_client_raises_a_serving_error():
    client = Client("127.0.0.1:8500", "movies", timeout=0.5)
    client.close()
    with pytest.raises(ServingError, match="no call"):
        client.recommend("u1")


@pytest.mark.parametrize("port", ["99999", "65536", "0", "-1", "http", "", "²", " 80", "8" * 5000])
def test_refuses_a_port_that_does_not_exist(port):
    with pytest.raises(ValueError, match=r"`address`=.*a port from 1 to 65535"):
        Client(f"127.0.0.1:{port}", "movies")


@pytest.mark.parametrize("address", [None, 8500, "", ":8500", "127.0.0.1"])
def test_refuses_an_address_without_host_or_port(address):
    with pytest.raises(ValueError, match="`address`="):
        Client(address, "movies")


@pytest.mark.parametrize("version", [0, -1, 1.5, 1.0, True, "1", "01", 2**63, 2**70])
def test_refuses_a_version_that_is_no_positive_int64_number(version):
    with pytest.raises(ValueError, match=r"`version`=.*whole number from 1"):
        Client("127.0.0.1:8500", "movies", version=version)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", True])
def test_refuses_a_timeout_that_is_no_number_of_seconds(timeout):
    with pytest.raises(ValueError, match="`timeout`="):
        Client("127.0.0.1:8500", "movies", timeout=timeout)
