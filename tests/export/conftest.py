"""One small model of each family, exported once and served once."""

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.models import FAMILIES
from tfrec_meta.serving import LocalServer

HISTORY = 6
CONFIG = tm.ExportConfig(
    history_width=HISTORY, k=4, max_k=7, exclude_width=3, candidates_width=5, filters=("category",)
)


@pytest.fixture(scope="session")
def shop():
    """Sixty users, thirty items with every kind of feature, and a context."""
    data = tm.synthetic(users=60, items=30, interactions=600, seed=3)
    pictures = np.random.default_rng(0).normal(size=(data.items.num_rows, 3)).astype(np.float32)
    items = data.items.append_column("picture", pa.array(list(pictures), pa.list_(pa.float32())))
    device = np.array(["phone", "desk", ""])[np.arange(len(data)) % 3]
    return tm.Interactions(
        data.events.append_column("device", pa.array(device)), data.users, items, "shop"
    )


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def family(request):
    return request.param


@pytest.fixture(scope="session")
def models(shop):
    features = tm.FeatureSpec(
        user=(tm.Category("segment"), tm.Number("age")),
        item=(
            tm.Category("category"),
            tm.Number("price"),
            tm.Text("title", width=4),
            tm.Vector("picture", 3),
        ),
        context=(tm.Category("device"),),
        history_length=4,  # less than a request carries: the rest is only left out of the answer
    )
    configs = {
        "two_tower": tm.TwoTowerConfig(embedding_dim=8, user_id=True, user_features=True),
        "content_tower": tm.ContentTowerConfig(embedding_dim=8, hidden=(16,), user_features=True),
        "ranker": tm.RankerConfig(embedding_dim=8, user_id=True),
        "multi_task": tm.MultiTaskConfig(embedding_dim=8, user_id=True),
        "meta_ranker": tm.MetaRankerConfig(embedding_dim=8, hidden=(16,), steps=10),
    }
    recipe = tm.TrainingConfig(epochs=3, batch_size=64)
    return {
        name: tm.train(shop, tm.Strategy(name, configs.get(name), recipe, features), progress=False)
        for name in FAMILIES
    }


@pytest.fixture(scope="session")
def exported(models, tmp_path_factory):
    """Version folders by family."""
    base = tmp_path_factory.mktemp("exported")
    return {name: tm.export(model, base / name, CONFIG) for name, model in models.items()}


@pytest.fixture(scope="session")
def servers(exported):
    running = {name: LocalServer(folder.parent) for name, folder in exported.items()}
    try:
        yield {name: server.start() for name, server in running.items()}
    finally:
        for server in running.values():
            server.stop(0)


@pytest.fixture
def model(models, family):
    return models[family]


@pytest.fixture
def server(servers, family):
    return servers[family]
