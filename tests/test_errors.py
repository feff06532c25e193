"""The error for a wrong argument."""

import pickle

from tfrec_meta.errors import ParameterError, named


def test_an_error_is_a_value_error_with_the_name_of_its_parameter():
    error = ParameterError("`k`=0; use 1 or more.", "k")
    assert isinstance(error, ValueError)
    assert (str(error), error.parameter) == ("`k`=0; use 1 or more.", "k")


def test_only_declared_parameters_get_other_names():
    error = ParameterError("`k`=0 for column `k` of `users`; use 1 or more.", "k")
    assert named(error, {"users": "--users"}) == str(error)
    assert named(error, {"k": "-k", "users": "--users"}).endswith("of `users`; use 1 or more.")
    assert named(ParameterError("no good"), {"k": "-k"}) == "no good"
    assert named(ValueError("`k`=0"), {"k": "-k"}) == "`k`=0"
    assert ParameterError("no good").parameter == ""


def test_an_error_survives_pickling():
    # Worker processes hand their exceptions over so; the library itself never reads a pickle.
    error = pickle.loads(pickle.dumps(ParameterError("`k`=0; use `l`.", "k", "l")))
    assert (str(error), error.parameters) == ("`k`=0; use `l`.", ("k", "l"))
