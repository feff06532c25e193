"""Wrong configs, each with words of the error that names the file and the key."""

WRONG = [
    (
        "sead: 1",
        "`sead` is not a setting; did you mean `seed`\\? Else use one of data, feedback, split",
    ),
    ("data: {sorce: a.csv}", "`data.sorce` is not a setting; did you mean `data.source`"),
    ("data: {clean: {dups: last}}", "`data.clean.dups` is not a setting; use one of duplicat"),
    ("feedback: {weights: {a: 1}}", "`feedback.weights` is not a setting"),
    ("protocol: time", "`protocol` is not a setting; did you mean `split.protocol`"),
    ("epochs: 3", "`epochs` is not a setting; use one of data"),
    ("evaluation: {basline: []}", "did you mean `evaluation.baselines`"),
    ("evaluation: {k: 0}", "`evaluation.k`=0; use 1 or more"),
    ("evaluation: {baselines: [als]}", "`evaluation.baselines` has 'als'; use some of"),
    ("evaluation: {baselines: none}", "`evaluation.baselines`='none'; use a list"),
    ("export: {diversity: 1}", "`export.diversity`=1; use True or False"),
    ("export: [k]", r"`export`=\['k'\]; use a mapping"),
    ("pipeline: films", "`pipeline`='films'; use a mapping"),
    ("split: {by: time}", "`split.by` is not a setting; use one of protocol, train"),
    ("strategy: {families: [a]}", "`strategy.families` is not a setting"),
    ("1: 2", "`1` is not a setting"),
    ("seed: one", "`seed`='one'; use a whole number"),
    ("data: log.csv", "`data`='log.csv'; use a mapping"),
    ("data: {source: 3}", "`data.source`=3"),
    ("data: {columns: [a]}", r"`data.columns`=\['a'\]; use a mapping"),
    ("data: {columns: {user_id: 3}}", "`data.columns.user_id`=3"),
    ("data: {bad_rows: no}", "`data.bad_rows`=False"),
    ("data: {max_bad_share: 2}", "`data.max_bad_share`=2"),
    ("data: {time_unit: days}", "`data.time_unit`='days'"),
    ("data: {clean: {time_range: [2026-01-01, 2026-02-01]}}", "is a date; quote it"),
    ("feedback: {target: buy}", "`feedback.target`='buy'"),
    ("split: {protocol: random}", "`split.protocol`='random'; use one of item, user"),
    ("recommend_history: 1", "`recommend_history`=1"),
    ("strategy: {family: als}", "`strategy.family`='als'; use one of"),
    ("strategy: {model: 3}", "`strategy.model`=3; use a mapping"),
]
# What a JSON Schema accepts, since it compares no values and knows no other keys than texts, and
# files to which it cannot be applied.
BEYOND_A_SCHEMA = [
    ("feedback: {event_weights: {1: 2}}", "`feedback.event_weights` has the key 1"),
    ("export: {k: 20, max_k: 10}", "`export.k`=20, but `export.max_k`=10; raise"),
    ("seed: 1\nseed: 2", "has two values for the key 'seed'"),
    (
        "seed: 1\nstrategy: {training: {seed: 2}}",
        "`seed`=1, but `strategy.training.seed`=2; keep one",
    ),
    ("split: {protocol: leave-last-out, train: 0.5}", "leave out `split.train`"),
    ("split: {train: 0.9, validation: 0.2}", "`split.train`=0.9 and `split.validation`=0.2"),
    ("feedback: {below: negative}", "`feedback.below`='negative'"),
    ("[1]", "is not a mapping of settings"),
    ("", "is not a mapping of settings"),
    ("a: [", "is not valid YAML"),
]
