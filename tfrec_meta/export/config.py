"""The options that are fixed when a model is exported."""

from __future__ import annotations

import dataclasses

from tfrec_meta.checks import Width, check_fields
from tfrec_meta.errors import ParameterError


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Options fixed at export time.

    Args:
        k: number of items that `serving_default` returns, and `recommend` where a request has no
            `k`.
        max_k: the largest `k` that a request can use; a larger one is capped.
        history_width: H, number of history items in a request. The model reads the latest
            `history_length` of its FeatureSpec; all of them are left out of the answer.
        exclude_width: E, number of further items that a request can leave out of the answer.
        candidates_width: C, number of items per row of `rank`.
        support_width: S, number of items per support set of `adapt`.
        filters: item categories that requests can filter by (`filter_<name>`).
        filter_width: F, number of values per filter.
        diversity: adds the input `diversity`; only for families with embeddings.
        recommend_history: recommends items of the history again.

    Raises:
        ValueError: if a number is not a whole number from 1 to 100,000, or `k` is above `max_k`.

    Example:
        >>> import tfrec_meta as tm
        >>> tm.ExportConfig(k=20, max_k=10)
        Traceback (most recent call last):
        ...
        tfrec_meta.errors.ParameterError: `k`=20, but `max_k`=10; raise `max_k`.
    """

    k: Width = 10
    max_k: Width = 100
    history_width: Width = 1000
    exclude_width: Width = 50
    candidates_width: Width = 100
    support_width: Width = 50
    filters: tuple[str, ...] = ()
    filter_width: Width = 8
    diversity: bool = False
    recommend_history: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.k > self.max_k:
            raise ParameterError(
                f"`k`={self.k}, but `max_k`={self.max_k}; raise `max_k`.", "k", "max_k"
            )
