"""An export holds values of users' columns only if the model reads them."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tfrec_meta.export import signatures as names

USERS = [f"planted-id-{k}@mail.example" for k in range(12)]
# Values that are repeated, so that their columns are features.
COLUMNS = {
    "phone": [f"+44 20 7946 0{k // 3}" for k in range(12)],
    "friends": [[f"planted-friend-{k % 3}"] for k in range(12)],
    "street": [f"plantedstreet{k // 3} road" for k in range(12)],
    "spent": [98765.5] * 12,
}
DEVICES = [f"planted-device-{k % 3}" for k in range(200)]
PLANTED = [
    *(user.encode() for user in USERS),
    b"+44 20 7946",
    b"planted-friend",
    b"plantedstreet",
    b"planted-device",
    b"98765.5",
]
SPEC = tm.FeatureSpec(
    user=(tm.Category("phone"), tm.Category("friends"), tm.Text("street"), tm.Number("spent")),
    context=(tm.Category("device"),),
    history_length=6,
)
RECIPE = tm.TrainingConfig(epochs=1, batch_size=32)
CONFIG = tm.ExportConfig(history_width=6, k=3, max_k=4, exclude_width=2, candidates_width=4)
READS_NONE = {
    "popularity": None,
    "two_tower": tm.TwoTowerConfig(embedding_dim=8),
    "ensemble": tm.EnsembleConfig((tm.Member("popularity"), tm.Member("ease"))),
}


@pytest.fixture(scope="module")
def planted():
    """Twelve users whose ids and attributes are easy to find in any file."""
    rng = np.random.default_rng(0)
    return tm.Interactions.from_arrays(
        [USERS[k] for k in rng.integers(0, 12, 200)],
        [f"i{k}" for k in rng.integers(0, 9, 200)],
        np.arange(200) + 10**9,
        further={"device": DEVICES},
        users=pa.table({"user_id": USERS, **COLUMNS}),
        items=pa.table({"item_id": [f"i{k}" for k in range(9)], "kind": ["tea", "jam", "tea"] * 3}),
    )


def exported(data, family, config, folder):
    strategy = tm.Strategy(family, training=RECIPE, features=SPEC)
    if config is not None:
        strategy = dataclasses.replace(strategy, model=config)
    return tm.export(tm.train(data, strategy, progress=False), folder / "m", CONFIG)


def found_in(version):
    """The planted values in any file; compressed tables are read."""
    files = [path for path in version.rglob("*") if path.is_file()]
    content = [path.read_bytes() for path in files]
    tables = [str(pq.read_table(path).to_pydict()) for path in files if path.suffix == ".parquet"]
    assert len(files) > 8
    assert tables
    every = b"\n".join([*content, *(table.encode() for table in tables)])
    return {value for value in PLANTED if value in every}


@pytest.mark.parametrize("family", READS_NONE)
def test_no_byte_of_an_export_has_a_value_that_the_model_does_not_read(family, planted, tmp_path):
    version = exported(planted, family, READS_NONE[family], tmp_path)
    assert found_in(version) == set()
    # The features stay inputs, so that a client needs not know the family.
    spec = tm.FeatureSpec.load(version / names.EXTRA_ASSETS / names.FEATURE_SPEC)
    assert (spec.user, spec.context) == (SPEC.user, SPEC.context)


@pytest.mark.slow
def test_an_export_has_the_values_that_the_model_reads(planted, tmp_path):
    config = tm.TwoTowerConfig(embedding_dim=8, user_features=True)
    version = exported(planted, "two_tower", config, tmp_path)
    words = {b"+44 20 7946", b"planted-friend", b"plantedstreet", b"planted-device", b"98765.5"}
    assert found_in(version) == words  # and no id of a user


@pytest.mark.slow  # another training and export, ten seconds
def test_a_model_with_user_ids_alone_exports_no_attributes(planted, tmp_path):
    config = tm.TwoTowerConfig(embedding_dim=8, user_id=True)
    version = exported(planted, "two_tower", config, tmp_path)
    assert found_in(version) == {user.encode() for user in USERS}
