"""A small search without training, for the tests of distributed searches."""

from tfrec_meta.evaluation import Objective
from tfrec_meta.tuning import SearchOptions, StrategySpace, StrategyTuner

SPACE = StrategySpace(("ials",))
LEASE = 0.6


def score(record, epochs, folder, report):
    return {Objective.NDCG: record["model"]["embedding_dim"] / 1000}


def build(folder, **options):
    evaluate = options.pop("evaluate", score)
    options = {"trials": 3, "oracle": "random", "progress": False, **options}
    return StrategyTuner(evaluate, SPACE, folder, SearchOptions(**options))
