"""The best of several outcomes."""

from tfrec_meta.tuning.trial_runner import best_outcome


def test_a_failed_trial_is_never_the_best():
    failed = {"val_rmse": None, "error": "ValueError: no"}
    assert best_outcome([failed, {"val_rmse": 5e4, "error": None}], "val_rmse")["val_rmse"] == 5e4
    assert best_outcome([failed], "val_rmse") is failed


def test_the_first_of_equal_trials_is_the_best():
    trials = [{"val_auc": value, "error": None, "trial_id": n} for n, value in enumerate([0.5] * 3)]
    assert best_outcome(trials, "val_auc")["trial_id"] == 0
