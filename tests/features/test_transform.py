"""What a later Transform takes over from an earlier one."""

import pyarrow as pa

from tfrec_meta.data import Interactions
from tfrec_meta.features import Category, FeatureSpec, Number, Text, Vector
from tfrec_meta.features.transform import grown_from, inferred, item_column, user_column

USERS = pa.table({"user_id": ["a", "b"], "age": [20.0, 40.0], "job": ["cook", "cook"]})
ITEMS = pa.table({"item_id": ["x", "y"], "tags": [["one"], ["two"]]})
DATA = Interactions.from_arrays(["a", "b"], ["x", "y"], users=USERS, items=ITEMS)
EARLIER = FeatureSpec(user=(Number("age"), Category("job")), item=(Category("tags"),)).fit(DATA)


def test_columns_of_the_tables_can_not_clash_with_those_of_the_events():
    assert user_column("age") == "user/age"
    assert item_column("title") == "item/title"


def test_a_feature_of_the_same_kind_keeps_its_vocabulary():
    declared = FeatureSpec(user=(Category("job", 2), Number("age")), history_length=9)
    grown = grown_from(declared, EARLIER)
    assert grown.declaration() == declared.declaration()
    assert set(grown.vocabularies) == {"user_id", "item_id", "user.job"}
    assert grown.users == EARLIER.users
    assert grown.statistics == {"user.age": (30.0, 10.0)}


def test_a_feature_of_another_kind_starts_empty():
    grown = grown_from(FeatureSpec(user=(Text("job"), Category("age"))), EARLIER)
    assert set(grown.vocabularies) == {"user_id", "item_id"}
    assert not grown.statistics


def test_inferred_features_stay_what_they_were_and_grow_only_wider():
    users = pa.table(
        {
            "user_id": ["c", "d", "e"],
            "city": ["Bonn", "Bonn", "Bonn"],
            # Inference would skip this column: single words that hardly repeat.
            "job": ["cook", "judge", "smith"],
        }
    )
    items = pa.table({"item_id": ["x"], "tags": [["one", "two"]], "image": [[0.5, 1.0, 2.0]]})
    spec = inferred(users, items, 7, EARLIER)
    assert spec.user == (Category("job"), Category("city"))  # the column of ages is gone
    assert spec.item == (Category("tags", 2), Vector("image", 3))
    assert spec.history_length == 7
    assert inferred(users, items, 7) == FeatureSpec.infer(
        Interactions.from_arrays(["c"], ["x"], users=users, items=items), 7
    )
