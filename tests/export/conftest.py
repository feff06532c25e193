"""Models of several families, each trained, exported and served once."""

import functools

import grpc
import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.models import FAMILIES
from tfrec_meta.serving import Client, LocalServer
from tfrec_meta.serving.protocol.messages import PredictRequest, PredictResponse
from tfrec_meta.serving.protocol.tensors import decode, encode

CONFIG = tm.ExportConfig(
    history_width=6, k=4, max_k=7, exclude_width=3, candidates_width=5, filters=("category",)
)
# One family for each kind of signature: a closed form, a tower that embeds unseen items, and, in
# the slow tests, outputs for several targets, and `adapt`.
FAST = ("ials", "two_tower")
KINDS = (
    *FAST,
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("multi_task", "meta_ranker")),
)


@pytest.fixture(scope="session")
def shop():
    """Sixty users, thirty items with every kind of feature, and context features."""
    data = tm.synthetic(users=60, items=30, interactions=600, seed=3)
    pictures = np.random.default_rng(0).normal(size=(data.items.num_rows, 3)).astype(np.float32)
    items = data.items.append_column("picture", pa.array(list(pictures), pa.list_(pa.float32())))
    released = pa.array(86_400 * 37 * np.arange(len(items)), pa.timestamp("s"))
    items = items.append_column("released", released)
    device = np.array(["phone", "desk", ""])[np.arange(len(data)) % 3]
    events = data.events.append_column("device", pa.array(device))
    events = events.append_column("asked", data.events["time"])
    return tm.Interactions(events, data.users, items, "shop")


@pytest.fixture(scope="session")
def model_of(shop):
    """model_of(family): the family's model, trained at the first call."""
    features = tm.FeatureSpec(
        user=(tm.Category("segment"), tm.Number("age")),
        item=(
            tm.Category("category"),
            tm.Number("price"),
            tm.Text("title", width=4),
            tm.Vector("picture", 3),
            tm.Calendar("released", ("day", "month")),
        ),
        context=(tm.Category("device"), tm.Calendar("asked", ("weekday", "hour"))),
        history_length=4,  # shorter than `history_width`: the answer leaves out all, not only these
    )
    configs = {
        "two_tower": tm.TwoTowerConfig(embedding_dim=8, user_id=True, user_features=True),
        "content_tower": tm.ContentTowerConfig(embedding_dim=8, hidden=(16,), user_features=True),
        "ranker": tm.RankerConfig(embedding_dim=8, user_id=True),
        "multi_task": tm.MultiTaskConfig(embedding_dim=8, user_id=True),
        "meta_ranker": tm.MetaRankerConfig(embedding_dim=8, hidden=(16,), steps=10),
    }
    recipe = tm.TrainingConfig(epochs=3, batch_size=64)

    @functools.cache
    def train(family):
        strategy = tm.Strategy(family, configs.get(family), recipe, features)
        return tm.train(shop, strategy, progress=False)

    return train


@pytest.fixture(scope="session")
def folder_of(model_of, tmp_path_factory):
    """folder_of(family): the version folder of the family's model, exported at the first call."""
    base = tmp_path_factory.mktemp("exported")
    return functools.cache(lambda family: tm.export(model_of(family), base / family, CONFIG))


class ServedModel:
    """One exported model behind a local server, with a channel and a client."""

    def __init__(self, name, folder):
        self.name = name
        self._server = LocalServer(folder.parent).start()
        self._channel = grpc.insecure_channel(self._server.address)
        self.client = Client(self._server.address, name, timeout=20)

    def predict(self, signature, **inputs):
        """Sends one Predict call with exactly these tensors; returns the outputs."""
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self.name, signature
        for name, value in inputs.items():
            array = np.asarray(value)
            encode(array.astype(object) if array.dtype.kind == "U" else array, request.inputs[name])
        call = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=PredictResponse.FromString,
        )
        outputs = call(request, timeout=20).outputs
        return {name: decode(proto) for name, proto in outputs.items()}

    def refusal(self, signature, **inputs):
        """Returns the message of a Predict call that fails with INVALID_ARGUMENT."""
        with pytest.raises(grpc.RpcError) as caught:
            self.predict(signature, **inputs)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        return caught.value.details()

    def close(self):
        self.client.close()
        self._channel.close()
        self._server.stop(0)


@pytest.fixture(scope="session")
def serve():
    """serve(name, folder): starts a server for a version folder; it stops after the last test."""
    running = []

    def start(name, folder):
        running.append(ServedModel(name, folder))
        return running[-1]

    yield start
    for served in running:
        served.close()


@pytest.fixture(scope="session")
def served_of(serve, folder_of):
    """served_of(family): the family's model behind a server, started at the first call."""
    return functools.cache(lambda family: serve(family, folder_of(family)))


@pytest.fixture(
    params=[
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(FAMILIES)
    ]
)
def any_family(request):
    """The name of each family."""
    return request.param


@pytest.fixture(params=KINDS)
def family(request):
    """The name of one family for each kind of signature."""
    return request.param


@pytest.fixture
def model(model_of, family):
    return model_of(family)


@pytest.fixture
def folder(folder_of, family):
    return folder_of(family)


@pytest.fixture
def served(served_of, family):
    return served_of(family)
