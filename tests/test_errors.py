"""The error for a wrong argument."""

import pickle

from tfrec_meta.errors import ParameterError


def test_an_error_is_a_value_error_with_the_name_of_its_parameter():
    error = ParameterError("`k`=0; use 1 or more.", "k")
    assert isinstance(error, ValueError)
    assert (str(error), error.parameter) == ("`k`=0; use 1 or more.", "k")


def test_only_declared_parameters_get_other_names():
    error = ParameterError("`k`=0 for column `k` of `users`; use 1 or more.", "k")
    assert error.named({"users": "--users"}) == str(error)
    assert error.named({"k": "-k", "users": "--users"}).endswith("of `users`; use 1 or more.")
    assert ParameterError("no good").named({"k": "-k"}) == "no good"
    assert ParameterError("no good").parameter == ""


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ParameterError("`k`=0; use `l`.", "k", "l")))
    assert (str(error), error.parameters) == ("`k`=0; use `l`.", ("k", "l"))
