import re

import pytest

import tfrec_meta as tm
from tests.workflows.small_split import SPLIT
from tfrec_meta.models import FAMILIES
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.run_settings import complete_settings
from tfrec_meta.workflows.runs import Run


def test_report_shows_the_named_users_and_refuses_unknown_ones(popularity, tmp_path):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=10)
    page = tm.report(tmp_path / "report.html", popularity, SPLIT, found, users=["v", "x"], k=2)
    text = page.read_text()
    assert "User v" in text
    assert "User x" in text
    with pytest.raises(ValueError, match="nobody"):
        tm.report(tmp_path / "other.html", popularity, SPLIT, found, users=["nobody"])


def test_report_shows_no_user_id_that_was_not_asked_for(popularity, tmp_path):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=10)
    page = tm.report(tmp_path / "report.html", popularity, SPLIT, found, k=2)
    assert "A test user" in page.read_text()
    assert "<h3>User " not in page.read_text()


def shown(path):
    """The names of the settings on a page with their values."""
    settings = path.read_text().partition("Settings in effect")[2]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", settings))


def test_the_page_of_a_run_lists_data_seed_and_settings_in_effect_and_no_user(tmp_path):
    log = tmp_path / "log.csv"
    rows = [f"ann{n % 9}@mail.example,i{n % 7},{10**9 + 86_400 * n}" for n in range(120)]
    rows += ["ann1@mail.example,,1"] * 30
    log.write_text("who,item_id,time\n" + "\n".join(rows) + "\n")
    given = {
        "data": {
            "source": [str(log)],
            "columns": {"user_id": "who"},
            "bad_rows": "drop",
            "max_bad_share": 0.5,
        },
        "seed": 7,
        "strategy": {"family": "ease"},
    }
    run = Run.begin(tmp_path / "run", given)
    run.train()
    run.evaluate(EvaluationSettings(3, ("popularity",), resamples=20))
    page = run.report(k=3)
    assert shown(page) == {
        "data.source": str(log),
        "data.columns.user_id": "who",
        "data.bad_rows": "drop",
        "data.max_bad_share": "0.5",
        "split.protocol": "time",
        "split.train": "0.8",
        "split.validation": "0.1",
        "recommend_history": "no",
        "seed": "7",
        "family": "ease",
        "model.l2": "400",
    }
    text = page.read_text()
    assert "mail.example" not in text.replace("user_id (e-mail addresses", "")
    assert "20.0% of the 150 rows were dropped" in text
    for heading in ("Paired differences", "Memory and latency", "new users in the test"):
        assert heading in text


def test_settings_without_effect_are_left_out(tmp_path):
    split = tm.split_by_item(tm.synthetic(users=30, items=15, interactions=200, seed=1))
    recipe = {"epochs": 1, "batch_size": 64, "optimizer": "lazy_adam", "patience": 2}
    strategy = {
        "family": "two_tower",
        "model": {"embedding_dim": 4, "encoder": "attention", "negatives": "full"},
        "training": recipe,
    }
    spec = tm.FeatureSpec.infer(split.train).fit(split.train)
    model = FAMILIES["two_tower"](tm.Strategy.from_dict(strategy).model, spec)  # not trained
    settings = complete_settings({"strategy": strategy})
    page = tm.report(tmp_path / "page.html", model, split, {}, k=3, settings=settings)
    names = shown(page)
    assert names["training.history"] == "leave_one_out"  # what "auto" is on a random split
    assert names["training.optimizer"] == "lazy_adam"
    assert names["model.encoder_length"] == "50"
    assert {"training.epochs", "model.temperature", "seed"} <= set(names)
    without = {"weight_decay", "adversarial_size", "patience", "accumulation", "seed", "l2"}
    assert not {f"training.{name}" for name in without} & set(names)
    without = {"encoder_heads", "encoder_layers", "logq", "margin", "calibration", "memory"}
    assert not {f"model.{name}" for name in without} & set(names)
    assert not [name for name in names if name.startswith("model.teacher")]
