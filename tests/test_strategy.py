"""The strategy of a model."""

import json

import tfrec_meta as tm


def test_round_trips_through_json():
    strategy = tm.Strategy(features=tm.FeatureSpec(item=(tm.Category("kind"),)))
    assert tm.Strategy.from_dict(json.loads(json.dumps(strategy.as_dict()))) == strategy
