"""No attribute can take the name of something that the library uses itself."""

import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.features.kinds import RESERVED_NAMES

NAMES = sorted(RESERVED_NAMES - {"user_id", "item_id"})


@pytest.mark.parametrize(
    "name", [*sorted(RESERVED_NAMES), "filter_genre", "Value", "class", "a b", "_x", 3]
)
def test_a_feature_cannot_have_a_reserved_name(name):
    with pytest.raises(ValueError, match="cannot be named"):
        tm.Number(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("ranker", tm.RankerConfig(embedding_dim=4)),
        ("two_tower", tm.TwoTowerConfig(embedding_dim=4, user_features=True)),
    ],
)
def test_columns_with_all_reserved_names_change_no_model(family, config):
    users, items = list("aabbccdd"), list("xyxzyzxw")
    plain = {"age": [20.0, 30.0, 40.0, 50.0]}
    strange = {name: [9.0, 1.0, 5.0, 2.0] for name in NAMES}
    recipe = tm.TrainingConfig(epochs=1, batch_size=4)
    scores = []
    for columns in (plain, plain | strange):
        data = tm.Interactions.from_arrays(
            users,
            items,
            range(8),
            users=pa.table({"user_id": list("abcd"), **columns}),
            items=pa.table({"item_id": list("wxyz"), **{f"i{n}": v for n, v in plain.items()}}),
        )
        model = tm.train(data, tm.Strategy(family, config, recipe), progress=False)
        scores.append(model.score(model.spec.encode_queries(["a"], features={"age": [25]})))
    assert scores[0].tolist() == scores[1].tolist()
