"""Folders of runs, written by hand, without running TFX."""

import json
from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2, path_pb2, schema_pb2, statistics_pb2

TABLES = ("Interactions", "Users", "Items")
# Node -> what it waits for.
GRAPH = {
    **{f"{t}Gen": [] for t in TABLES},
    **{f"{t}Statistics": [f"{t}Gen"] for t in TABLES},
    "LastAccepted": ["InteractionsStatistics"],
    "Schemas": ["LastAccepted", *(f"{t}Statistics" for t in TABLES)],
    **{f"{t}Validator": [f"{t}Statistics", "Schemas"] for t in TABLES},
    "DataGate": [
        "LastAccepted",
        "Schemas",
        *(f"{t}{kind}" for t in TABLES for kind in ("Gen", "Statistics", "Validator")),
    ],
    "Histories": ["DataGate", *(f"{t}Gen" for t in TABLES)],
    "SplitGate": ["Histories"],
    "LastTransform": ["Histories"],
    "Transform": ["Histories", "SplitGate", "LastTransform"],
    "Tuner": ["Transform", "Histories"],
    "LastBlessed": ["Histories"],
    "Trainer": ["Transform", "Histories", "Tuner", "LastBlessed"],
    "Evaluator": ["Trainer", "Histories"],
    "RankingGate": ["Trainer", "LastBlessed", "Histories", "Evaluator"],
    "InfraValidator": ["Trainer", "Histories"],
    "Pusher": ["Trainer", "RankingGate", "InfraValidator"],
}
SECONDS = {"Tuner": 61.25, "Trainer": 22.5, "Histories": 9.75, "Transform": 14.0, "Evaluator": 8.0}
VERDICT = (
    "Blessed: NDCG@10 is 0.0312 above popularity's (95 % interval of the difference +0.0121 to "
    "+0.0502, 943 users), and nothing is below the last blessed model's."
)
ERROR = """\
ValueError: The data is not accepted:
interactions.rating: unexpectedly high value: 7.5
users.age: drift, Jensen-Shannon divergence against the last accepted data is 0.41, above 0.3
Fix the data. To accept the change,
set data.drift={"users.age": 0.42} for this run."""


def make_run(
    runs: Path, run_id="2026-11-22-101500", fails_at=None, reached=None, **options
) -> Path:
    """Writes a run into `<pipeline's folder>/runs`.

    Args:
        runs: the folder of runs.
        run_id: of the run.
        fails_at: the node that fails; those after it are not reached.
        reached: how many nodes have run; all by default.
        options: `blessed`, `anomalous`, `hour`, `cached` (node ids).
    """
    folder = runs / run_id
    folder.mkdir(parents=True)
    nodes = [
        {"pipeline_node": {"node_info": {"id": node, "type": {"name": node}}, "upstream_nodes": up}}
        for node, up in GRAPH.items()
    ]
    ir = {"pipeline_info": {"id": "films"}, "nodes": nodes}
    (folder / "pipeline.json").write_text(json.dumps(ir))
    config = {
        "name": "films",
        "seed": 42,
        "data": {"interactions": {"path": "ratings-{SPAN}.csv"}, "max_drift": 0.3},
        "tuner": {"trials": 6, "families": ["two_tower"]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines = []
    for place, node in enumerate(GRAPH):
        if place == reached:
            break
        failed = node == fails_at
        record = {
            "node": node,
            "state": "failed" if failed else _state(node, options.get("cached", ())),
            "began": f"2026-11-22T{options.get('hour', 10)}:{15 + place // 2}:00.5+00:00",
            "seconds": SECONDS.get(node, 0.5),
            "error": ERROR if failed else None,
            "outputs": {}
            if failed
            else _outputs(runs.parent / "artifacts" / run_id, node, options),
        }
        lines.append(json.dumps(record))
        if failed:
            break
    (folder / "nodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _state(node, cached):
    return "cached" if node in cached else "skipped" if node == "LastBlessed" else "ran"


def _outputs(folder: Path, node, options):
    folder = folder / node
    properties = {"tfx_version": "1.21.0"}

    def artifact(key, kind, **more):
        (folder / key).mkdir(parents=True, exist_ok=True)
        made = {"type": kind, "uri": str(folder / key), "id": len(node)}
        return {key: [made | {"properties": properties | more}]}

    if node.endswith("Statistics"):
        made = artifact("statistics", "ExampleStatistics")
        write_proto(folder / "statistics/Split-all/FeatureStats.pb", statistics(node))
        return made
    if node.endswith("Validator") and node != "InfraValidator":
        made = artifact("anomalies", "ExampleAnomalies")
        found = anomalies_pb2.Anomalies()
        if options.get("anomalous") and node == "InteractionsValidator":
            found = anomalies()
        write_proto(folder / "anomalies/Split-all/SchemaDiff.pb", found)
        return made
    if node == "DataGate":
        shares = {"new_users": 0.125, "new_items": 0.5}
        made = artifact("accepted", "TfrecMetaAcceptedData", interactions_rows=1000, **shares)
        drift = [
            {"feature": "users.age", "measure": "Jensen-Shannon divergence", "value": 0.0421},
            {"feature": "items.genres", "measure": "L-infinity of the shares", "value": 0.25},
        ]
        report = {"drift": [d | {"against": "the last accepted data", "limit": 0.3} for d in drift]}
        (folder / "accepted/anomalies.json").write_text(json.dumps(report | shares))
        return made
    if node == "SplitGate":
        made = artifact("compared", "TfrecMetaSplitComparison")
        moved = {"feature": "users.gender", "against": "the split train, split test"}
        moved |= {"measure": "L-infinity of the shares", "value": 0.15, "limit": 0.3}
        (folder / "compared/drift.json").write_text(json.dumps({"drift": [moved]}))
        return made
    if node == "Schemas":
        made = artifact("interactions", "Schema", inferred=0)
        made |= artifact("users", "Schema", inferred=1)
        return made | artifact("items", "Schema", inferred=0)
    if node == "Tuner":
        best = {"learning_rate": 0.01, "dim": 64, "temperature": 0.05}
        made = artifact("best_hyperparameters", "HyperParameters")
        made |= artifact("tuner_results", "TunerResults")
        (folder / "best_hyperparameters/best_hyperparameters.txt").write_text(
            json.dumps({"space": [], "values": best})
        )
        scores = {"1": 0.31, "0": 0.262, "3": 0.255, "2": 0.2511, "5": 0.21, "4": 0.12}
        records = [
            {"trial_id": t, "score": s, **best, "dim": 64 if t == "1" else 16 * (int(t) + 1)}
            for t, s in scores.items()
        ]
        (folder / "tuner_results/tuner_results.json").write_text(json.dumps(records))
        return made
    if node == "RankingGate":
        blessed = options.get("blessed", True)
        made = artifact("verdict", "TfrecMetaBlessingReport")
        made |= artifact("blessing", "ModelBlessing", blessed=int(blessed))
        (folder / "verdict/verdict.json").write_text(json.dumps(verdict(blessed)))
        (folder / "verdict/verdict.html").write_text("<!doctype html><title>Verdict</title>")
        return made
    if node == "InfraValidator":
        return artifact("blessing", "InfraBlessing", blessed=1, reason="It loads, and answered.")
    if node == "Pusher":
        if options.get("blessed", True):
            return artifact(
                "pushed_model",
                "PushedModel",
                pushed=1,
                new_version=1,
                pushed_version="3",
                pushed_destination="/srv/films/3",
                reason="Pushed as version 3.",
            )
        reason = "Not pushed: the ranking gate did not bless it; version 2 stays served."
        return artifact("pushed_model", "PushedModel", pushed=0, reason=reason)
    properties = {"dropped": json.dumps(options.get("dropped", {}).get(node, {}))}
    if node == "Histories":
        properties["personal"] = json.dumps(options.get("personal", []))
    return artifact("examples", "Examples", span=3, split_names='["all"]', **properties)


def write_proto(path: Path, message) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(message.SerializeToString())


def statistics(node):
    """Statistics of 1,000 rows: ids, a number with missing values, times, and an empty column."""
    found = statistics_pb2.DatasetFeatureStatisticsList()
    table = found.datasets.add(name="all", num_examples=1000)
    ident = table.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    ident.path.step.append(f"{node[:4].lower()}_id")
    ident.string_stats.common_stats.num_non_missing = 1000
    ident.string_stats.common_stats.max_num_values = 1
    ident.string_stats.unique = 943
    for value, frequency in (("405", 250), ("<script>alert(1)</script>", 125), ("655", 50)):
        ident.string_stats.top_values.add(value=value, frequency=frequency)
    number = table.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    number.path.step.append("rating")
    stats = number.num_stats
    stats.common_stats.num_missing, stats.common_stats.num_non_missing = 250, 750
    stats.common_stats.max_num_values = 1
    stats.mean, stats.min, stats.median, stats.max = 3.53, 1, 4, 5
    histogram = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    for low, count in enumerate((50, 100, 200, 300, 100)):
        histogram.buckets.add(low_value=low, high_value=low + 1, sample_count=count)
    time = table.features.add(type=statistics_pb2.FeatureNameStatistics.INT)
    time.path.step.append("time")
    time.num_stats.common_stats.num_non_missing = 1000
    time.num_stats.min, time.num_stats.max = 874724710, 893286638
    empty = table.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    empty.path.step.append("a_column_with_a_name_that_is_rather_long_and_holds_nothing_at_all")
    empty.string_stats.common_stats.num_missing = 1000
    return found


def anomalies():
    found = anomalies_pb2.Anomalies(baseline=schema_pb2.Schema())
    info = found.anomaly_info["rating"]
    info.path.CopyFrom(path_pb2.Path(step=["rating"]))
    info.severity = anomalies_pb2.AnomalyInfo.ERROR
    info.short_description = "Out-of-range values"
    info.description = "Unexpectedly high value: 7.5, where 5 is the largest."
    return found


def verdict(blessed=True):
    """The file of a verdict: `Verdict.as_dict` and the facts of RankingGate."""
    failed = {
        "slice": "new_users",
        "metric": "recall@10",
        "against": "last_blessed_model",
        "users": 120,
        "model": 0.1,
        "other": 0.15,
        "difference": -0.05,
        "low": -0.08,
        "high": -0.02,
        "confidence": 0.95,
        "outcome": "passed" if blessed else "failed",
        "words": "recall@10 on new users is 0.0500 below the last blessed model's",
    }
    passed = failed | {
        "slice": "all_users",
        "metric": "ndcg@10",
        "against": "popularity",
        "users": 943,
        "model": 0.1312,
        "other": 0.1,
        "difference": 0.0312,
        "low": 0.0121,
        "high": 0.0502,
        "outcome": "passed",
        "words": "",
    }
    still = failed | {
        "outcome": "inconclusive",
        "users": 0,
        "model": None,
        "low": None,
        "high": None,
    }
    words = VERDICT if blessed else "Not blessed: " + failed["words"] + "."
    return {
        "blessed": blessed,
        "words": words,
        "checks": [passed, failed, still | {"other": None, "difference": None}],
        "notes": ["12 of the 943 test users have no history that the model can use."],
        "signature": {"": {"auc": 0.7512, "calibration": 1.02, "example_count": 5000}},
    }
