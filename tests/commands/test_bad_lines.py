"""Bad command lines and damaged files: one clear sentence that names the option or the file."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tfrec_meta.commands import main as cli

LOG = "user_id,item_id,value,time\n" + "".join(
    f"u{n % 12},i{n % 7},{n % 5 + 1},{1_700_000_000 + n}\n" for n in range(200)
)
ITEMS = "item_id,title,genre\n" + "".join(f"i{n},Film {n},drama\n" for n in range(7))
FILES: dict[str, str | bytes] = {
    "log.csv": LOG,
    "log.txt": LOG,
    "items.csv": ITEMS,
    "empty.csv": "",
    "header.csv": "user_id,item_id\n",
    "nameless.csv": "ann,tea\nbob,rum\n",
    "ragged.csv": "user_id,item_id\nann,tea\nbob\n",
    "hole.csv": "user_id,item_id\nann,tea\nbob,\n",
    "words.csv": "user_id,item_id,value\nann,tea,much\n",
    "infinite.csv": "user_id,item_id,value\nann,tea,inf\n",
    "past.csv": "user_id,item_id,time\nann,tea,yesterday\n",
    "ambiguous.csv": "user_id,item_id,time\nann,tea,01/02/2020\n",
    "semicolon.csv": "customer;product\nann;tea\n",
    "latin.csv": "user_id,item_id\nJosé,tea\n".encode("latin1"),
    "binary.csv": bytes(range(256)) * 4,
    "control.csv": "user_id,item_id\x1b[31m\nann,tea\n",
    "twice.csv": "user_id,user_id,item_id\nann,ann,tea\n",
    "cut.parquet": b"PAR1\0\0\0",
    "text.parquet": LOG,
    "cut.csv.gz": b"\x1f\x8b\x08\0\0\0\0\0",
    "cut.csv.zst": b"\x28\xb5\x2f\xfd",
    "list.jsonl": "[1, 2]\n",
    "cut.jsonl": '{"user_id": "ann", "item_id"\n',
    "other.csv": "film,title\n1,Heat\n",
    "list.yaml": "[1]",
    "key.yaml": "data: {sorce: log.csv}",
    "seed.yaml": "seed: 1",
    "twice.yaml": "seed: 1\nseed: 2",
    "deep.yaml": "[" * 5000,
    "empty.json": "",
    "cut.json": '{"family": "ease", "mod',
    "list.json": "[1]",
    "number.json": "3",
    "null.json": "null",
    "binary.json": b"\xff\xfe\x00\x01",
    "deep.json": "[" * 100_000,
    "unknown.json": '{"famly": "ease"}',
    "family.json": '{"family": 3}',
    "families.json": '{"family": ["ease"]}',
    "model.json": '{"model": 3}',
    "model_list.json": '{"model": [1]}',
    "field.json": '{"model": {"depth": 3}}',
    "dim_text.json": '{"model": {"embedding_dim": "big"}}',
    "dim_huge.json": '{"model": {"embedding_dim": 1000000000000000000000000000000}}',
    "dim_null.json": '{"model": {"embedding_dim": null}}',
    "hidden.json": '{"model": {"hidden": 3}}',
    "hidden_list.json": '{"model": {"hidden": [[3]]}}',
    "encoder.json": '{"model": {"encoder": {"a": 1}}}',
    "training.json": '{"training": "quick"}',
    "epochs.json": '{"training": {"epochs": "many"}}',
    "epochs_nan.json": '{"training": {"epochs": NaN}}',
    "rate.json": '{"training": {"learning_rate": -1e400}}',
    "optimizer.json": '{"training": {"optimizer": ["adam"]}}',
    "features.json": '{"features": 3}',
    "features_list.json": '{"features": [1]}',
    "features_part.json": '{"features": {"user": 3}}',
    "history.json": '{"history_length": "long"}',
    "history_huge.json": '{"history_length": 1000000000}',
    "teacher.json": '{"teacher": 3}',
    "teachers.json": '{"teacher": ["ease"]}',
    "weights.json": '{"use_weights": "yes"}',
    "control.json": '{"family": "\\u001b[2J"}',
    "studies.json": '{"studies": [3]}',
    "studies_text.json": '{"studies": "all"}',
    "studies_header.json": '{"studies": [{"study_id": "a", "trials": []}]}',
    "studies_trials.json": '{"studies": [{"study_id": "a", "trials": [1]}]}',
    "studies_null.json": '{"studies": [null]}',
    "studies_number.json": '{"studies": [{"study_id": "a", "trials": 7}]}',
    "keras/oracle.json": "{",
    "keras_list/oracle.json": "[]",
    "keras_space/oracle.json": '{"hyperparameters": {"space": 3}, "trials": []}',
    "keras_trial/oracle.json": '{"hyperparameters": {"space": [], "values": {}}}',
    "keras_trial/trial_0/trial.json": "[",
    "tfx/tuner_results.json": "{}",
    "tfx/best_hyperparameters.txt": "{}",
    "tfx_cut/tuner_results.json": "[",
    "tfx_rows/tuner_results.json": "[1]",
    "tfx_rows/best_hyperparameters.txt": '{"space": 3}',
    "junk_store/studies.jsonl": "{\n",
    "tables/interactions.json": "{",
    "tables_list/interactions.json": "[]",
    "tables_empty/interactions.json": "{}",
    "models/cut/1/saved_model.pb": b"\0",
    "models/empty/none.txt": "",
    "models/catalogue/1/assets.extra/catalogue.json": "{",
    "ca.pem": "no certificate",
}


def _with(*keys: str, value: object) -> object:
    """Returns a change of a record: the value at a path of keys."""

    def change(record: dict) -> None:
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return change


RUNS = {
    "list": [1],
    "number": 3,
    "nothing": {},
    "old": _with("format", value=1),
    "new": _with("format", value={"a": 1}),
    "data_number": _with("data", value=3),
    "data_null": _with("data", value=None),
    "data_empty": _with("data", value={}),
    "source_number": _with("data", "source", value=3),
    "source_text": _with("data", "source", value="log.csv"),
    "source_numbers": _with("data", "source", value=[3]),
    "source_empty": _with("data", "source", value=[]),
    "columns_list": _with("data", "columns", value=[1]),
    "delimiter": _with("data", "delimiter", value=7),
    "encoding": _with("data", "encoding", value=None),
    "lists": _with("data", "lists", value=[1]),
    "types": _with("data", "types", value={"zip": 3}),
    "share": _with("data", "max_bad_share", value="all"),
    "pseudonyms": _with("data", "pseudonyms", value=3),
    "split_text": _with("split", value="time"),
    "split_empty": _with("split", value={}),
    "protocol": _with("split", "protocol", value=["time"]),
    "share_text": _with("split", "train", value="most"),
    "share_nan": _with("split", "train", value=float("nan")),
    "feedback": _with("feedback", value=3),
    "feedback_field": _with("feedback", value={"weigth": "value"}),
    "feedback_weights": _with("feedback", value={"event_weights": [1]}),
    "history": _with("recommend_history", value="yes"),
    "seed_text": _with("seed", value="one"),
    "seed_null": _with("seed", value=None),
    "strategy_text": _with("strategy", value="ease"),
    "strategy_null": _with("strategy", value=None),
}

# The command line, and after "=>" what its error names.
LINES = """
train --data nowhere.csv => nowhere.csv
train --data runs => runs
train --data log.txt => log.txt
train --data '' => --data
train --data empty.csv => empty.csv
train --data header.csv => header.csv
train --data nameless.csv => --columns
train --data ragged.csv => ragged.csv
train --data hole.csv => hole.csv
train --data words.csv => words.csv
train --data infinite.csv => infinite.csv
train --data past.csv => past.csv
train --data ambiguous.csv => --time-format
train --data semicolon.csv --columns user_id=customer,item_id=product => --delimiter=';'
train --data latin.csv => latin.csv
train --data binary.csv => binary.csv
train --data control.csv => --columns
train --data twice.csv => twice.csv
train --data cut.parquet => cut.parquet
train --data text.parquet => text.parquet
train --data cut.csv.gz => cut.csv.gz
train --data cut.csv.zst => cut.csv.zst
train --data list.jsonl => list.jsonl
train --data cut.jsonl => cut.jsonl
train --data tables => tables
train --data tables_list => tables_list
train --data tables_empty => tables_empty
train --data movielens-9k => 9k
train --data movielens- => movielens
train --data synthetic-0x0x0 => synthetic
train --data synthetic-5x5 => synthetic
train --data synthetic-1000000000000x1x1 => synthetic
train --data synthetic-5x5x99999999999999999999999 => synthetic
train --data log.csv synthetic => synthetic
train --data log.csv tables => tables
train --data $'log\\x1b[2J.csv' => log
train --data 漢字.csv => 漢字.csv
train --data log.csv --columns '' => --columns
train --data log.csv --columns user_id=nobody => nobody
train --data log.csv --columns =x => --columns
train --data log.csv --columns 'user_id=item_id,item_id=item_id' => item_id
train --data log.csv --columns $'user_id=\\x07' => --columns
train --data log.csv --users items.csv => items.csv
train --data log.csv --users runs => --users
train --data log.csv --users empty.csv => empty.csv
train --data log.csv --items other.csv => other.csv
train --data log.csv --items '' => --items
train --data log.csv --items cut.parquet => cut.parquet
train --data log.csv --items log.txt => log.txt
train --data log.csv --delimiter '' => --delimiter
train --data log.csv --delimiter ;; => --delimiter
train --data log.csv --delimiter é => --delimiter
train --data log.csv --encoding '' => --encoding
train --data log.csv --encoding rot13 => --encoding
train --data log.csv --quote ab => --quote
train --data log.csv --quote , --delimiter , => --quote
train --data log.csv --lists genres=| => --lists
train --data log.csv --types genres=text => --types
train --data log.csv --types value=shape => --types
train --data log.csv --types value=text => --types
train --data log.csv --time-unit eons => --time-unit
train --data log.csv --time-format '' => --time-format
train --data log.csv --time-format $'%\\x00' => --time-format
train --data log.csv --bad-rows '' => --bad-rows
train --data log.csv --max-bad-share nan => --max-bad-share
train --data log.csv --max-bad-share -1 => --max-bad-share
train --data log.csv --max-bad-share inf => --max-bad-share
train --data log.csv --pseudonyms NOT_SET => NOT_SET
train --data log.csv --pseudonyms '' => --pseudonyms
train --data log.csv --folder runs => --folder
train --data synthetic-9x9x50 --items items.csv => --items
train --data synthetic-9x9x50 --users items.csv => --users
train --data synthetic-9x9x50 --columns user_id=who => --columns
train --data synthetic-9x9x50 --delimiter ; => --delimiter
train --data synthetic-9x9x50 --encoding latin1 => --encoding
train --data synthetic-9x9x50 --decimal , => --decimal
train --data synthetic-9x9x50 --quote x => --quote
train --data synthetic-9x9x50 --lists genre=x => --lists
train --data synthetic-9x9x50 --types genre=text => --types
train --data synthetic-9x9x50 --time-unit ms => --time-unit
train --data synthetic-9x9x50 --time-format %Y => --time-format
train --data synthetic-9x9x50 --bad-rows drop => --bad-rows
train --data synthetic-9x9x50 --max-bad-share 0.5 => --max-bad-share
train --data synthetic-9x9x50 --folder runs => --folder
train --data log.csv --max-bad-share 0.5 => --max-bad-share
train --split '' => --split
train --data log.csv --train nan => --train
train --data log.csv --train 1e400 => --train
train --data log.csv --train 0 => --train
train --data log.csv --validation -1 => --validation
train --data log.csv --train 0.6 --validation 0.4 => --validation
train --data log.csv --split leave-last-out --train 0.5 => --train
train --data log.csv --train 1e-300 => --train
train --data log.csv --event-weights view=nan => --event-weights
train --data log.csv --event-weights view=inf => --event-weights
train --data log.csv --event-weights '' => --event-weights
train --data log.csv --event-weights view => --event-weights
train --data log.csv --event-type '' => --event-type
train --data log.csv --target buy => event_type
train --data log.csv --weight nobody => nobody
train --data log.csv --weight value --event-weights view=1 => event_type
train --data log.csv --positive inf => --positive
train --data log.csv --positive '' => --positive
train --data log.csv --below negative => --below
train --data log.csv --below '' => --below
train --data log.csv --epochs -1 => --epochs
train --data log.csv --epochs 1.5 => --epochs
train --data log.csv --epochs 1e400 => --epochs
train --data log.csv --seed -1 => --seed
train --data log.csv --seed 1000000000000000000000000000000 => --seed
train --data log.csv --family '' => --family
train --data log.csv --family $'\\x1b[2J' => --family
train --data log.csv --family 漢字 => --family
train --data log.csv --strategy runs => --strategy
train --data log.csv --strategy '' => --strategy
train --data log.csv --run log.csv => --run
train --data log.csv --run '' => --run
train --data log.csv --nonsense => --nonsense
train --data => --data
train extra => extra
train --run good --seed 9 => good
tune gone => gone
tune log.csv --no-memory --store store => --store
tune log.csv --no-memory --description shop => --no-memory
tune log.csv --no-memory --similarity profile => --similarity
tune '' => RUN|DATA
tune log.csv --trials 0 => --trials
tune log.csv --trials -1 => --trials
tune log.csv --trials nan => --trials
tune log.csv --families '' => --families
tune log.csv --families ease,oracle => --families
tune log.csv --oracle '' => --oracle
tune log.csv --trial-seconds nan => --trial-seconds
tune log.csv --trial-seconds -1 => --trial-seconds
tune log.csv --fixed a= => --fixed
tune log.csv --fixed =3 => --fixed
tune log.csv --fixed nobody=3 => --fixed
tune log.csv --fixed two_tower/embedding_dim=[] => --fixed
tune log.csv --similarity '' => --similarity
tune log.csv --folder log.csv => --folder
tune log.csv --store log.csv => --store
tune good --split time => --split
tune good --items items.csv => --items
tune synthetic-9x9x50 --items items.csv => --items
tune good --strategy cut.json => cut.json
distill => TEACHER
distill '' --data log.csv => TEACHER
distill gone --data log.csv => TEACHER
distill runs --data log.csv => TEACHER
distill runs/list => run.json
distill ials --data log.csv --resamples -1 => --resamples
distill ials --data log.csv --family ease => ease
distill ials --data synthetic-9x9x50 --users items.csv => --users
evaluate --run nowhere => nowhere
evaluate --run log.csv => --run
evaluate --run '' => --run
evaluate --run models => models
evaluate --run untrained => untrained
evaluate --run half => half
evaluate --run good -k -1 => -k
evaluate --run good -k nan => -k
evaluate --run good -k 1000000000000000000000000000000 => -k
evaluate --run good --baselines '' => --baselines
evaluate --run good --baselines ease,nobody => --baselines
evaluate --run good --resamples -1 => --resamples
evaluate --run good --resamples 1000000000000 => --resamples
report --run nowhere => nowhere
report --run good --users nobody => --users
report --run good --users $'\\x1b[2J' => --users
report --run good -k 0 => -k
report --run good --to runs => --to
report --run good --to log.csv/report.html => log.csv
evaluate --run log.csv/run => log.csv
studies list --store log.csv/x => log.csv
cold-start --run good => cold-users
cold-start --run nowhere => nowhere
cold-start --run newcomers --shots '' => --shots
cold-start --run newcomers --shots -1 => --shots
cold-start --run newcomers --shots 1,1.5 => --shots
cold-start --run newcomers --shots 1000000000000000000000 => --later
cold-start --run newcomers --shots 1 --later 0 => --later
cold-start --run newcomers --shots 1 --later 2 -k -1 => -k
cold-start --run newcomers --metric '' => --metric
cold-start --run newcomers --baselines , => --baselines
export --run nowhere => nowhere
export --run untrained --final => untrained
export --run good --version 0 => --version
export --run good --version True => --version
export --run good --version 1.5 => --version
export --run good --version 1180591620717411303424 => --version
export --run good -k 50 --max-k 10 => --max-k
export --run good --max-k 1000000000000000000000000000000 => --max-k
export --run good --filters colour => --filters
export --run good --filters '' => --filters
export --run good --to log.csv => --to
export --run good --to '' => --to
serve nowhere => nowhere
serve log.csv => FOLDER
serve '' => FOLDER
serve models/empty => models/empty
serve models/cut --poll-seconds 0 => models/cut
serve {base} --port -1 => --port
serve {base} --port 65536 => --port
serve {base} --port nan => --port
serve {base} --port 0 --threads -1 => --threads
serve {base} --port 0 --threads 1000000000000 => --threads
serve {base} --port 0 --grace nan => --grace
serve {base} --port 0 --poll-seconds nan => --poll-seconds
serve {base} --port 0 --poll-seconds inf => --poll-seconds
serve {base} --port 0 --certificate ca.pem => --key
serve {base} --port 0 --key ca.pem => --certificate
serve {base} --port 0 --certificate ca.pem --key ca.pem => --certificate
serve {base} --port 0 --host '' => --host
serve {base} --port 0 --host 300.1.1.1 --insecure => 300.1.1.1
serve {base} --port 0 --name '' => --name
recommend --server '' => --server
recommend --server nowhere:99999 => --server
recommend --server :8500 => --server
recommend --server 127.0.0.1:1 --timeout 0.2 => 127.0.0.1:1
recommend --server 127.0.0.1:1 --timeout nan => --timeout
recommend --server 127.0.0.1:1 --timeout 1e400 => --timeout
recommend --server 127.0.0.1:1 --timeout -1 => --timeout
recommend --server 127.0.0.1:1 -k -1 => -k
recommend --server 127.0.0.1:1 -k 1000000000000000000000000000000 => -k
recommend --model '' => --model
recommend --server 127.0.0.1:1 --timeout 0.2 --model $'\\x1b' => 127.0.0.1:1
recommend --titles nowhere => nowhere
recommend --titles log.csv => --titles
recommend --server 127.0.0.1:1 --titles models/catalogue => models/catalogue
recommend --run runs/list => run.json
recommend --run nowhere => nowhere
recommend --tls log.csv/x => --tls
recommend --tls ca.pem => --tls
recommend --server example.org:8500 => --insecure
adapt --items '' => --items
adapt --items a=b => --items
adapt --items a=nan => --items
adapt --items a=inf => --items
adapt --items =1 => --items
adapt --items a --server nowhere => --server
adapt --items a --server 127.0.0.1:1 --timeout 0 => --timeout
fetch 1k => NAME
fetch '' => NAME
fetch 100k --cache log.csv => --cache
fetch $'\\x1b[2J' => NAME
completion => SHELL
completion csh => SHELL
doctor extra => extra
data => Usage
data check => FILE
data check nowhere.csv => nowhere.csv
data check log.txt => log.txt
data check movielens-100k => movielens-100k
data check empty.csv => empty.csv
data check header.csv => header.csv
data check nameless.csv => --columns
data check twice.csv => --columns
data check latin.csv => unreadable
data check binary.csv => --columns
data check cut.parquet => cut.parquet
data check text.parquet => text.parquet
data check cut.csv.gz => cut.csv.gz
data check cut.csv.zst => cut.csv.zst
data check cut.jsonl => cut.jsonl
data check list.jsonl => list.jsonl
data check log.csv items.csv => items.csv
data check log.csv --rows -1 => --rows
data check log.csv --time-format %H => unreadable time
data check log.csv --encoding klingon => --encoding
data check log.csv --to items.csv => items.csv
data check log.csv --to log.csv/x.yaml => log.csv
train --config nowhere.yaml => --config
train --config list.yaml => list.yaml
train --config key.yaml => data.sorce
train --config twice.yaml => twice.yaml
train --config binary.csv => binary.csv
train --config deep.yaml => deep.yaml
tune --config key.yaml => data.sorce
distill ease --config key.yaml => data.source
recommend --user 1 --config key.yaml => data.source
data check --config key.yaml => data.source
data check --config seed.yaml => FILE
studies => Usage
studies bake => bake
studies show => STUDY
studies show '' --store store => STUDY
studies show nobody --store store => nobody
studies show a --store log.csv => --store
studies show a --top 0 => --top
studies export a.xml --store store => FILE
studies export runs --store store => FILE
studies export a.json --store store => store
studies export a.json nobody --store store => nobody
studies export log.csv/a.json nobody --store store => log.csv
studies import nowhere --store store => nowhere
studies import '' --store store => PATH
studies import log.csv --store store => log.csv
studies import empty.json --store store => empty.json
studies import deep.json --store store => deep.json
studies import list.json --store store => list.json
studies import binary.json --store store => binary.json
studies import studies.json --store store => studies.json
studies import studies_text.json --store store => studies_text.json
studies import studies_header.json --store store => studies_header.json
studies import studies_trials.json --store store => studies_trials.json
studies import studies_null.json --store store => studies_null.json
studies import studies_number.json --store store => studies_number.json
studies import runs --store store => runs
studies import keras --store store => keras
studies import keras_list --store store => keras_list
studies import keras_space --store store => keras_space
studies import keras_trial --store store => keras_trial
studies import tfx --store store => tfx
studies import tfx_cut --store store => tfx_cut
studies import tfx_rows --store store => tfx_rows
studies import tfx --direction up => --direction
studies import tfx --epochs 1e400 => --epochs
studies prune --store store => --older-than
studies prune nobody --store store => nobody
studies prune --older-than -1d => --older-than
studies prune --older-than 99999999999d => --older-than
studies prune --keep-best nan => --keep-best
bake => bake
""".strip().splitlines()
# Every command that reads a strategy file reads all of these.
STRATEGIES = sorted(
    name
    for name in FILES
    if name.endswith(".json") and "/" not in name and not name.startswith("studies")
)
LINES += [f"train --data log.csv --strategy {name} => --strategy" for name in STRATEGIES]
LINES += [f"evaluate --run runs/{name} => run.json" for name in RUNS]
LINES += [f"train --run runs/{name} => run.json" for name in ("list", "data_number", "seed_text")]
LINES += [f"export --run bad_evaluation/{n} => evaluation.json" for n in range(8)]
EVALUATIONS = [
    "",
    "{",
    "[]",
    '{"models": 3}',
    '{"models": {"ease": 3}}',
    '{"k": 10}',
    '{"k": "ten", "models": {}}',
    '{"models": {"ease": {"metrics": {"ndcg@10": "high"}}}}',
]

CLASS_NAME = re.compile(r"\b[A-Z]\w*(Error|Exception|Warning|Interrupt)\b|Traceback|\bArrow[A-Z]")


@pytest.fixture(scope="module")
def place(run, tmp_path_factory) -> Path:
    """A folder with good and bad files, runs and models."""
    place = tmp_path_factory.mktemp("lines")
    for name, content in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        (place / name).write_bytes(content)
    shutil.copytree(run, place / "good")
    record = json.loads((run / "run.json").read_text())
    for name, change in RUNS.items():
        bad = json.loads(json.dumps(record))
        if callable(change):
            change(bad)
        else:
            bad = change
        folder = place / "runs" / name
        (folder / "model").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(bad))
    for number, text in enumerate(EVALUATIONS):
        folder = place / "bad_evaluation" / str(number)
        shutil.copytree(run, folder)
        (folder / "evaluation.json").write_text(text)
    (place / "untrained").mkdir()
    (place / "untrained" / "run.json").write_text(json.dumps(record))
    shutil.copytree(run / "model", place / "half" / "model")
    shutil.copy(run / "run.json", place / "half")
    largest = max((place / "half" / "model").rglob("*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(b"")
    newcomers = ["train", "--run", str(place / "newcomers"), "--split", "cold-users"]
    data = ["--data", "synthetic-60x30x600", "--family", "popularity"]
    assert cli.main([*newcomers, *data]) == 0
    return place


def words_of(line: str, base: Path) -> list[str]:
    """The words of a line, with $'…' as in bash."""
    line = re.sub(
        r"\$'([^']*)'", lambda found: shlex.quote(found[1].encode().decode("unicode_escape")), line
    )
    return [word.replace("{base}", str(base)) for word in shlex.split(line)]


def test_there_are_enough_lines():
    assert len(LINES) >= 300
    assert len(set(LINES)) == len(LINES)


@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_ends_with_one_sentence_that_names_its_fault(
    line, place, base, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    monkeypatch.setenv("TFREC_META_STUDIES", str(place / "store"))
    monkeypatch.setenv("TFREC_META_CACHE", str(place / "cache"))
    command, _, names = line.partition(" => ")
    capsys.readouterr()
    status = cli.main(words_of(command, base))
    _, printed = capsys.readouterr()
    _, _, error = ("\n" + printed).rpartition("\nerror: " if status == 1 else "\nError: ")
    fault = (
        status not in (1, 2)
        or names not in error
        or len(error) > 2000
        or CLASS_NAME.search(printed) is not None
        or "This is a fault of" in error
        or not re.sub(r"[\n\t]", "", printed).isprintable()
    )
    for name in ("first", "student"):  # of a line that was no fault
        shutil.rmtree(place / "runs" / name, ignore_errors=True)
    assert not fault, f"{command}: {status}\n{printed}"
