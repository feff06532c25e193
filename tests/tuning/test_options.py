"""Options of a search, and invalid values in them."""

import pytest

from tfrec_meta.tuning import SearchOptions, Similarity, TransferOptions


def test_invalid_search_options_are_refused_by_name():
    for name, value in (
        ("oracle", "delphi"),
        ("trials", 0),
        ("epochs", 0),
        ("trial_seconds", 0),
        ("lease_seconds", -1),
    ):
        with pytest.raises(ValueError, match=f"`{name}`={value!r}; use "):
            SearchOptions(**{name: value})


def test_similarities_are_read_by_value():
    found = TransferOptions(similarity=["texts", Similarity.PROFILE]).similarity
    assert found == (Similarity.TEXTS, Similarity.PROFILE)


def test_an_unknown_similarity_is_refused():
    with pytest.raises(ValueError, match="`similarity` has colour; use any of profile, texts"):
        TransferOptions(similarity=("profile", "colour"))
