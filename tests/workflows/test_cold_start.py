"""Evaluation of cold users from end to end: methods, settings, report."""

import json
import math
from collections import Counter

import pytest

import tfrec_meta as tm
from tfrec_meta.metalearning.cold_users import ColdUsers, history_scores
from tfrec_meta.models import IALS, IALSConfig
from tfrec_meta.training import seed_everything
from tfrec_meta.workflows.cold_start import ColdStartReport

OTHERS = ["no_adaptation", "fine_tuning", "popularity", "item_knn", "ease", "ials"]


@pytest.fixture(scope="module")
def split():
    data = tm.synthetic(users=240, items=40, interactions=4000, seed=3)
    return tm.split_cold_users(data, test=0.2, validation=0.2, seed=1)


@pytest.fixture(scope="module")
def model(split):
    config = tm.MetaLearnedConfig(embedding_dim=6, shots=5, folds=2, steps=5, iterations=3)
    return tm.train(split, tm.Strategy("meta_learned", config), progress=False)


@pytest.fixture(scope="module")
def found(model, split):
    return tm.evaluate_cold_start(model, split, shots=(5, 0, 2), k=5, later=4, resamples=50)


def test_each_method_has_a_curve_over_the_same_users(found):
    assert list(found.evaluations) == ["meta_learned", *OTHERS]
    assert found.shots == [0, 2, 5]
    assert found.metric == "ndcg@5"
    counts = {
        tuple(one.counts.values()) for by in found.evaluations.values() for one in by.values()
    }
    assert len(counts) == 1
    assert all(math.isfinite(v) for name in found.evaluations for v in found.curve(name))


def test_users_with_too_few_events_are_left_out_and_counted(found, split, tmp_path):
    test = split.test
    pairs = set(zip(test.user_codes.tolist(), test.item_codes.tolist(), strict=True))
    many = Counter(user for user, _ in pairs).values()
    few = sum(n < 9 for n in many)  # 5 for the support set, 4 that are relevant
    assert few > 0
    assert found.left_out == found.as_dict()["left_out"] == few
    assert f"({few} more have too few)" in str(found)
    page = found.write(tmp_path / "cold.html").read_text("utf-8")
    assert f"<p>{len(many)} users were held out with all their events" in page
    assert f"{few} of them have too few events and are left out; {len(many) - few} are" in page


def test_without_support_adaptation_and_fine_tuning_change_nothing(found):
    ours = found.curve("meta_learned")
    assert found.curve("no_adaptation") == pytest.approx([ours[0]] * 3)
    assert found.curve("fine_tuning")[0] == pytest.approx(ours[0])
    assert found.curve("popularity") == pytest.approx([found.curve("popularity")[0]] * 3)
    assert found.best_other(0) in ("ials", "ease", "item_knn", "popularity")


def test_settings_are_the_best_on_validation_users_for_each_number_of_events(found, split, model):
    assert found.tuned
    validation = ColdUsers(split.validation, model.spec, 5, 4)
    values = {}
    for l2, unseen in ((8.5, 0.3), *((a, b) for a in (30, 100, 300) for b in (0.3, 1))):
        seed_everything(42)
        one = IALS(IALSConfig(32, l2, unseen, iterations=8), model.spec)
        one.fit(split.train)
        words = f"l2={l2}, unseen_weight={unseen}"
        values[words] = validation.evaluate(history_scores(one), 5, 5)["ndcg@5"].value
    assert values[found.settings["ials"][5]] == pytest.approx(max(values.values()), abs=1e-6)


def test_best_other_method_is_compared_by_a_paired_difference(found):
    values = {name: found.curve(name)[2] for name in OTHERS}
    best_other = found.best_other(5)
    assert values[best_other] == max(values.values())
    difference = found.curve("meta_learned")[2] - values[best_other]
    assert found.compare(5).difference == pytest.approx(difference)
    assert found.compare(5, "popularity").difference == pytest.approx(
        found.curve("meta_learned")[2] - values["popularity"]
    )


def test_curves_print_as_a_table_and_convert_to_json(found):
    text = str(found)
    assert f"item_knn     {found.curve('item_knn')[0]:9.4f}" in text
    assert f"compared with {found.best_other(5)} (p = " in text
    record = json.loads(json.dumps(found.as_dict()))
    assert record["best_others"]["2"]["method"] == found.best_other(2)
    assert record["methods"]["ease"]["5"]["metrics"]["ndcg@5"]["value"] == pytest.approx(
        found.curve("ease")[2]
    )


def test_page_shows_curves_values_and_settings(found, tmp_path):
    page = found.write(tmp_path / "pages" / "cold.html", "A <shop>").read_text("utf-8")
    assert "A &lt;shop&gt;" in page
    assert "<script" not in page
    assert page.count('<polyline class="line') == 7
    assert 'class="band"' in page
    assert f"{found.curve('ease')[1]:.4f}" in page
    assert found.settings["fine_tuning"][5] in page


def test_without_validation_users_other_methods_use_default_settings(split, model, tmp_path):
    alone = tm.Split(
        split.data, split.train_index, split.validation_index[:0], split.test_index, "cold-users"
    )
    found = tm.evaluate_cold_start(
        model, alone, shots=(3,), k=5, later=4, baselines=["ease"], resamples=0
    )
    assert not found.tuned
    assert found.settings == {"fine_tuning": {3: "4 steps of 0.4"}, "ease": {3: "l2=400.0"}}
    assert "use their default settings" in found.write(tmp_path / "page.html").read_text("utf-8")
    assert str(found).endswith(")")


def test_model_without_adapt_is_evaluated_by_histories(split):
    ease = tm.train(split, "ease", progress=False)
    found = tm.evaluate_cold_start(
        ease, split, shots=(0, 3), later=4, baselines=["ease"], resamples=0
    )
    assert list(found.evaluations) == ["ease", "no_adaptation", "ease (baseline)"]


def test_without_baselines_the_best_other_method_is_a_variant_of_the_model(split, model):
    found = tm.evaluate_cold_start(model, split, shots=(0, 2), later=4, baselines=[], resamples=0)
    assert found.best_other(0) is None
    assert found.compare(0) is None
    assert found.best_other(2) in ("no_adaptation", "fine_tuning")
    assert "0" not in found.as_dict()["best_others"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": ()}, r"`shots`=\(\)"),
        ({"shots": (0,)}, r"`shots`=\(0,\)"),
        ({"shots": (-1, 2)}, r"`shots`=\(-1, 2\)"),
        ({"metric": "coverage"}, "`metric`='coverage' has no value for each user"),
        ({"metric": "f1"}, "`metric`='f1'"),
        ({"baselines": ["oracle"]}, "`baselines` has 'oracle'"),
        ({"later": 1000}, "No user has 1020 items"),
    ],
)
def test_invalid_arguments_are_refused(split, model, options, message):
    with pytest.raises(ValueError, match=message):
        tm.evaluate_cold_start(model, split, **options)


def test_split_with_known_test_users_is_refused(split, model):
    known = tm.split_by_user(split.data, train=0.7)
    with pytest.raises(ValueError, match="Use `split_cold_users`"):
        tm.evaluate_cold_start(model, known)


def test_report_of_a_single_number_of_events_prints_and_is_drawn(found):
    one = ColdStartReport(
        {name: {5: by[5]} for name, by in found.evaluations.items()}, "ndcg@5", {}, False, "cold", 0
    )
    assert str(one).count("after 5 events") == 1
