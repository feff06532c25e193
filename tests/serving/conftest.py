"""Models and servers that the tests of this folder share."""

import functools
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from tfrec_meta.serving import Client, LocalServer

HERE = Path(__file__).parent


def load(name):
    """Imports a module of this folder; it imports TensorFlow."""

    spec = importlib.util.spec_from_file_location(f"serving_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_movies():
    """The module of the toy recommender."""
    return load("toy_movies")


@pytest.fixture(scope="session")
def movies_base(toy_movies, tmp_path_factory):
    """Base folder of the toy recommender, version 3; tests must not write to it."""
    base = tmp_path_factory.mktemp("models") / "movies"
    toy_movies.save(base / "3")
    return base


@pytest.fixture(scope="session")
def movies_server(movies_base):
    with LocalServer(movies_base) as server:
        yield server


@pytest.fixture
def client(movies_server):
    with Client(movies_server.address, "movies", timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def recorded_base(tmp_path_factory):
    """Base folder of the model of the recorded calls, versions 1 and 2."""
    folder = tmp_path_factory.mktemp("recorded")
    load("make_model").main(str(folder))
    return folder / "toy"


@pytest.fixture(scope="session")
def recorded_server(recorded_base):
    with LocalServer(recorded_base, versions="all", labels={"stable": 1, "canary": 2}) as server:
        yield server


@pytest.fixture(scope="session")
def stubs():
    """stubs(address): gRPC stubs with the messages of tensorflow-serving-api; one channel each."""

    import grpc
    from tensorflow_serving.apis import (
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    channels = []

    @functools.cache
    def make(address):
        channels.append(grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]))
        return SimpleNamespace(
            prediction=prediction_service_pb2_grpc.PredictionServiceStub(channels[-1]),
            model=model_service_pb2_grpc.ModelServiceStub(channels[-1]),
        )

    yield make
    for channel in channels:
        channel.close()
