"""Codes and features worked by hand, and properties of random spaces."""

import contextlib
import itertools
import math

import keras_tuner
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec_meta.tuning.surrogates.encoding import (
    INACTIVE,
    Dimension,
    SpaceEncoding,
    feature_scales,
    point_key,
    point_keys,
    untried,
)


def dimension(declare):
    hp = keras_tuner.HyperParameters()
    declare(hp)
    return Dimension(hp.space[0], 0)


def family_space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("family", ["ials", "ease", "towers"])
    with hp.conditional_scope("family", ["ials"]):
        hp.Int("ials/iterations", 5, 7, default=6)
    with hp.conditional_scope("family", ["ease", "towers"]):
        hp.Float("l2", 1.0, 100.0, sampling="log", default=10.0)
    with hp.conditional_scope("family", ["towers"]):
        hp.Boolean("deep")
        with hp.conditional_scope("deep", [True]):
            hp.Choice("layers", [3, 1, 2], default=2)
    return hp


# One hyperparameter.


@pytest.mark.parametrize(
    "declare, values",
    [
        (lambda hp: hp.Int("x", -2, 1), [-2, -1, 0, 1]),
        (lambda hp: hp.Int("x", 6, 13, step=3), [6, 9, 12]),
        (lambda hp: hp.Int("x", 2, 33, step=2, sampling="log"), [2, 4, 8, 16, 32]),
        (lambda hp: hp.Int("x", 2, 32, step=2, sampling="reverse_log"), [2, 18, 26, 30, 32]),
        (lambda hp: hp.Float("x", -1.0, -0.1, step=0.4), [-1.0, -0.6, -0.2]),
        (lambda hp: hp.Float("x", 0.0, 0.3, step=0.05), [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        (
            lambda hp: hp.Float("x", 0.001, 10, step=10, sampling="log"),
            [1e-3, 1e-2, 0.1, 1.0, 10.0],
        ),
        (lambda hp: hp.Float("x", 0.5, 0.5), [0.5]),
        (lambda hp: hp.Int("x", 4, 4, sampling="log"), [4]),
        (lambda hp: hp.Choice("x", [8, 2, 4]), [2, 4, 8]),
        (lambda hp: hp.Choice("x", ["b", "a", "b"]), ["b", "a"]),
        (lambda hp: hp.Boolean("x"), [False, True]),
        (lambda hp: hp.Fixed("x", "windows"), ["windows"]),
        (lambda hp: hp.Float("x", 0.0, 1.0), None),
    ],
)
def test_values_match_the_declaration(declare, values):
    found = dimension(declare)
    if values is None:
        assert found.values is None
        assert found.count is None
    else:
        number = isinstance(values[0], float)
        assert found.values == (pytest.approx(values) if number else values)
        assert {type(value) for value in found.values} == {type(values[0])}


def test_values_of_a_stepped_range_stay_within_it():
    assert max(dimension(lambda hp: hp.Float("x", 0.0, 0.3, step=0.05)).values) == 0.3


@pytest.mark.parametrize(
    "declare, value, code",
    [
        (lambda hp: hp.Float("x", -1.0, 3.0), 0.0, 0.25),
        (lambda hp: hp.Float("x", 0.01, 100.0, sampling="log"), 1.0, 0.5),
        # 1 + 100 - 1 * 100 ** 0.5 = 91
        (lambda hp: hp.Float("x", 1.0, 100.0, sampling="reverse_log"), 91.0, 0.5),
        (lambda hp: hp.Int("x", 0, 4), 3, 0.75),
        (lambda hp: hp.Int("x", 1, 16, sampling="log"), 4, 0.5),
        (lambda hp: hp.Int("x", 1, 16, sampling="reverse_log"), 13, 0.5),
        (lambda hp: hp.Int("x", 2, 32, step=2, sampling="log"), 8, 0.5),
        (lambda hp: hp.Choice("x", [1, 10, 100]), 10, 0.5),
        (lambda hp: hp.Choice("x", ["a", "b", "c"]), "c", 2.0),
        (lambda hp: hp.Boolean("x"), True, 1.0),
        (lambda hp: hp.Fixed("x", 7), 7, 0.0),
    ],
)
def test_codes_match_values_worked_by_hand(declare, value, code):
    found = dimension(declare)
    assert found.code(value) == pytest.approx(code)
    assert found.value(code) == pytest.approx(value)


@pytest.mark.parametrize(
    "declare, value, counts_as",
    [
        (lambda hp: hp.Float("x", 1.0, 100.0, sampling="log"), 0.0, 1.0),
        (lambda hp: hp.Float("x", 1.0, 100.0, sampling="log"), math.inf, 100.0),
        (lambda hp: hp.Float("x", 1.0, 100.0, sampling="reverse_log"), 1e9, 100.0),
        (lambda hp: hp.Choice("x", [16, 64]), 33, 64),  # 32 is the middle on the logarithmic scale
        (lambda hp: hp.Choice("x", [16, 64]), 31, 16),
        (lambda hp: hp.Choice("x", [16, 64]), -3, 16),
        (lambda hp: hp.Choice("x", [16, 64]), math.inf, 64),
        (lambda hp: hp.Int("x", -3, 3), 0.4, 0),
        (lambda hp: hp.Float("x", 0.0, 0.5, step=0.1), 0.26, 0.3),
        (lambda hp: hp.Boolean("x"), 1, True),  # written by another tool
        (lambda hp: hp.Int("x", 0, 3), True, 1),
        (lambda hp: hp.Int("x", 0, 3), 2.0, 2),
    ],
)
def test_invalid_numbers_map_to_the_nearest_valid_value(declare, value, counts_as):
    found = dimension(declare)
    assert found.value(found.code(value)) == pytest.approx(counts_as)


@pytest.mark.parametrize(
    "declare, value",
    [
        (lambda hp: hp.Float("x", 0.0, 1.0), "0.5"),
        (lambda hp: hp.Float("x", 0.0, 1.0), None),
        (lambda hp: hp.Float("x", 0.0, 1.0), True),
        (lambda hp: hp.Float("x", 0.0, 1.0), math.nan),
        (lambda hp: hp.Int("x", 0, 3), math.nan),
        (lambda hp: hp.Int("x", 0, 3), None),
        (lambda hp: hp.Choice("x", ["a", "b"]), "c"),
        (lambda hp: hp.Choice("x", ["a", "b"]), 1),
        (lambda hp: hp.Boolean("x"), 2),
        (lambda hp: hp.Fixed("x", "windows"), 3),
    ],
)
def test_invalid_values_have_no_code(declare, value):
    assert dimension(declare).code(value) is None


@pytest.mark.parametrize("sampling", ["log", "reverse_log"])
def test_very_long_ranges_are_thinned_out(sampling):
    values = dimension(lambda hp: hp.Int("x", 1, 10**9, sampling=sampling)).values
    assert 500 < len(values) <= 1000
    assert (values[0], values[-1]) == (1, 10**9)
    assert values == sorted(set(values))
    assert len(dimension(lambda hp: hp.Int("x", 0, 10**9)).values) == 1000


@pytest.mark.parametrize(
    "declare, below, share",
    [
        (lambda hp: hp.Float("x", 1.0, 100.0, sampling="log"), 10.0, 0.5),
        (lambda hp: hp.Float("x", 1.0, 100.0, sampling="reverse_log"), 91.0, 0.5),
        (lambda hp: hp.Int("x", 0, 9), 3, 0.3),
        (lambda hp: hp.Choice("x", [1, 2, 3, 4]), 2, 0.25),
        # (2.5 / 0.5) of (100.5 / 0.5) on the logarithmic scale
        (lambda hp: hp.Int("x", 1, 100, sampling="log"), 3, math.log(5) / math.log(201)),
    ],
)
def test_draws_follow_the_declared_sampling(declare, below, share):
    found = dimension(declare)
    drawn = found.draw((np.arange(10_000) + 0.5) / 10_000)
    assert np.mean([found.value(code) < below for code in drawn]) == pytest.approx(share, abs=2e-3)


# Spaces.


def test_features_match_values_worked_by_hand():
    encoding = SpaceEncoding(family_space())
    assert encoding.width == 3 + 1 + 1 + 2 + 1
    assert encoding.groups.tolist() == [0, 0, 0, 1, 2, 3, 3, 4]
    rows = [
        {"family": "ials", "ials/iterations": 7},
        {"family": "ease", "l2": 10.0},
        {"family": "towers", "l2": 1.0, "deep": True, "layers": 3},
    ]
    codes = np.array([encoding.codes(row) for row in rows])
    off = INACTIVE
    np.testing.assert_allclose(
        encoding.features(codes),
        [
            [1, 0, 0, 1, off, 0, 0, off],
            [0, 1, 0, off, 0.5, 0, 0, off],
            [0, 0, 1, off, 0, 0, 1, 1],
        ],
    )
    assert [encoding.values(row) for row in codes] == rows


def test_feature_scales_make_choices_as_far_apart_as_the_ends_of_a_range():
    scales = feature_scales(np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(scales, [0.5**0.5] * 3 + [1.0])
    assert math.dist([scales[0], 0], [0, scales[1]]) == pytest.approx(1.0)
    assert feature_scales(np.zeros(0, int)).shape == (0,)


def test_missing_values_have_defaults_and_inactive_values_are_ignored():
    encoding = SpaceEncoding(family_space())
    assert encoding.values(encoding.default()) == {"family": "ials", "ials/iterations": 6}
    one = encoding.codes({"family": "ease", "layers": "nonsense", "ials/iterations": 5})
    assert encoding.values(one) == {"family": "ease", "l2": pytest.approx(10.0)}
    assert point_key(one) == point_key(encoding.codes({"family": "ease", "deep": True}))


@pytest.mark.parametrize("values", [{"family": "knn"}, {"family": None}, {"ials/iterations": "7"}])
def test_points_outside_the_space_have_no_codes(values):
    assert SpaceEncoding(family_space()).codes(values) is None


def test_one_name_may_have_several_conditions():
    hp = keras_tuner.HyperParameters()
    hp.Choice("loss", ["softmax", "bpr"])
    with hp.conditional_scope("loss", ["softmax"]):
        hp.Float("temperature", 0.0, 1.0, default=0.5)
    with hp.conditional_scope("loss", ["bpr"]):
        hp.Choice("temperature", ["low", "high"])
    encoding = SpaceEncoding(hp)
    for values in (
        {"loss": "softmax", "temperature": 0.25},
        {"loss": "bpr", "temperature": "high"},
    ):
        assert encoding.values(encoding.codes(values)) == values
    assert encoding.codes({"loss": "bpr", "temperature": 0.25}) is None


def test_only_one_hyperparameter_of_a_name_is_active():
    hp = keras_tuner.HyperParameters()
    hp.Choice("loss", ["softmax", "bpr"])
    hp.Int("x", 0, 3)
    with hp.conditional_scope("loss", ["bpr"]):
        hp.Int("x", 0, 3)
    encoding = SpaceEncoding(hp)
    assert encoding.size() == 8
    assert len(untried(encoding.sample(500, np.random.default_rng(0)), set())) == 8


def test_a_condition_on_a_fixed_parent_may_never_hold():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("layers", 3)
    with hp.conditional_scope("layers", [1, 2]):
        hp.Int("width", 1, 9)
    assert SpaceEncoding(hp).values(SpaceEncoding(hp).default()) == {"layers": 3}


def test_digest_depends_on_conditions_and_order():
    def space(parent="a", values=(True,), ordered=True):
        hp = keras_tuner.HyperParameters()
        hp.Boolean("a")
        hp.Boolean("b")
        with hp.conditional_scope(parent, list(values)):
            hp.Choice("x", [1, 2, 3], ordered=ordered)
        return SpaceEncoding(hp).digest()

    assert space() == space()
    digests = {space(), space("b"), space(values=[False]), space(ordered=False)}
    assert len(digests) == 4


def test_size_counts_active_values_only():
    hp = keras_tuner.HyperParameters()
    hp.Choice("family", ["a", "b", "c"])
    with hp.conditional_scope("family", ["a", "b"]):
        hp.Int("x", 1, 5)
        with hp.conditional_scope("x", [2, 3]):
            hp.Boolean("y")
    encoding = SpaceEncoding(hp)
    assert encoding.size() == 2 * (3 + 2 * 2) + 1
    assert encoding.size(limit=15) == 15
    assert encoding.size(limit=14) is None
    assert SpaceEncoding(family_space()).size() is None


def test_enumerating_a_large_space_is_fast():
    hp = keras_tuner.HyperParameters()
    for number in range(20):
        hp.Boolean(f"x{number}")
    assert SpaceEncoding(hp).size(limit=2_000) is None
    assert SpaceEncoding(hp).size(limit=2**20) == 2**20


def test_an_empty_space_has_one_point():
    encoding = SpaceEncoding(keras_tuner.HyperParameters())
    assert encoding.size() == 1
    assert encoding.values(encoding.default()) == {}
    assert encoding.features(encoding.all()).shape == (1, 0)
    assert encoding.neighbours(encoding.all(), np.random.default_rng(0)).shape == (0, 0)


def test_neighbours_in_another_family_have_its_defaults():
    encoding = SpaceEncoding(family_space())
    near = encoding.neighbours(encoding.default()[None], np.random.default_rng(0))
    found = [encoding.values(codes) for codes in near]
    assert {"family": "ials", "ials/iterations": 7} in found
    assert {"family": "ease", "l2": pytest.approx(10.0)} in found
    assert {"family": "towers", "l2": pytest.approx(10.0), "deep": False} in found
    assert len(found) == 4


def test_untried_keeps_the_first_of_equal_points():
    codes = np.array([[0.5, 0.0], [0.1, 1.0], [0.5, -0.0], [0.1 + 1e-12, 1.0], [0.2, 0.0]])
    assert untried(codes, {point_key(codes[4])}).tolist() == [[0.5, 0.0], [0.1, 1.0]]
    assert point_keys(codes)[0] == point_keys(codes)[2]
    assert untried(codes[:0], set()).shape == (0, 2)


# Properties of random spaces.


def _parameter(draw, hp, name):
    kind = draw(st.sampled_from(["int", "stepped", "log", "float", "choice", "boolean", "fixed"]))
    low = draw(st.integers(-3, 3))
    sampling = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    if kind == "int":
        hp.Int(name, low, low + draw(st.integers(0, 4)), default=low)
    elif kind == "stepped":
        hp.Float(name, low, low + 1.0, step=draw(st.sampled_from([0.25, 0.3, 0.1])))
    elif kind == "log":
        hp.Int(name, low + 4, low + 4 + draw(st.integers(0, 20)), sampling=sampling)
    elif kind == "float":
        hp.Float(name, low + 4.0, low + 5.0, sampling=sampling)
    elif kind == "choice":
        hp.Choice(name, draw(st.sampled_from([["a", "b", "c"], [4, 1, 2], [0.5, 0.1], ["one"]])))
    elif kind == "boolean":
        hp.Boolean(name, default=draw(st.booleans()))
    else:
        hp.Fixed(name, draw(st.sampled_from(["windows", 3, 0.5, True])))


@st.composite
def spaces(draw):
    """Parents come first; children depend on one or two earlier hyperparameters."""
    hp = keras_tuner.HyperParameters()
    parents = []
    for number in range(draw(st.integers(1, 6))):
        name = f"p{number}"
        scopes = []
        if parents and draw(st.booleans()):
            above, parent, values = draw(st.sampled_from(parents))
            wanted = draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
            scopes = [*above, (parent, wanted)]
        with contextlib.ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(hp.conditional_scope(*scope))
            _parameter(draw, hp, name)
        values = Dimension(hp.space[-1], 0).values
        if values is not None:
            parents.append((scopes, name, values))
    return hp


@settings(deadline=None, max_examples=60)
@given(spaces(), st.integers(0, 2**31))
def test_samples_round_trip_and_are_active_as_in_keras_tuner(space, seed):
    encoding = SpaceEncoding(space)
    codes = encoding.sample(20, np.random.default_rng(seed))
    active = encoding.active(codes)
    for row, on in zip(codes, active, strict=True):
        values = encoding.values(row)
        np.testing.assert_allclose(encoding.codes(values), row, atol=1e-9)
        reference = space.copy()
        reference.values = dict(values)
        assert [reference.is_active(parameter) for parameter in reference.space] == on.tolist()
        for parameter in reference.space:
            if parameter.name in values and hasattr(parameter, "min_value"):
                assert parameter.min_value <= values[parameter.name] <= parameter.max_value
    features = encoding.features(codes)
    assert features.shape == (20, encoding.width)
    assert features.min(initial=0) >= 0
    assert features.max(initial=0) <= 1


@settings(deadline=None, max_examples=60)
@given(spaces(), st.integers(0, 2**31))
def test_neighbours_differ_in_one_active_parameter(space, seed):
    encoding = SpaceEncoding(space)
    generator = np.random.default_rng(seed)
    point = encoding.sample(1, generator)
    here = encoding.active(point)[0]
    for other in encoding.neighbours(point, generator):
        both = here & encoding.active(other[None])[0]
        assert (np.abs(other - point[0]) > 1e-12)[both].sum() == 1


@settings(deadline=None, max_examples=60)
@given(spaces())
def test_size_equals_a_brute_force_count(space):
    encoding = SpaceEncoding(space)
    if any(d.values is None for d in encoding.dimensions):
        assert encoding.size() is None
        return
    if math.prod(len(d.values) for d in encoding.dimensions) > 3_000:
        return
    every = np.array(list(itertools.product(*(d.codes for d in encoding.dimensions))))
    expected = set(point_keys(encoding.canonical(every)))
    found = encoding.all()
    assert encoding.size() == len(found) == len(expected)
    assert set(point_keys(found)) == expected
