"""Interactions: reading, generating, cleaning and splitting them, and the histories of users."""

from tfrec_meta.data.feedback import Feedback
from tfrec_meta.data.histories import Histories, histories, user_histories
from tfrec_meta.data.interactions import Interactions
from tfrec_meta.data.places.reading import read_sql
from tfrec_meta.data.privacy.personal_columns import PersonalColumn, personal_columns
from tfrec_meta.data.privacy.pseudonyms import pseudonymise
from tfrec_meta.data.protocols import SplitProtocol, ValidationProtocol
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.sources.movielens import movielens
from tfrec_meta.data.sources.movielens_download import fetch_movielens, is_fetched
from tfrec_meta.data.sources.reading import read_interactions
from tfrec_meta.data.sources.streaming import StreamedInteractions, stream_interactions
from tfrec_meta.data.sources.synthetic import synthetic, synthetic_factors
from tfrec_meta.data.splits import (
    Split,
    split_by_item,
    split_by_time,
    split_by_user,
    split_cold_items,
    split_cold_users,
    split_domain,
    split_leave_last_out,
)
from tfrec_meta.io.pseudonyms import pseudonym

__all__ = [
    "Feedback",
    "FileFormat",
    "Histories",
    "Interactions",
    "PersonalColumn",
    "Split",
    "SplitProtocol",
    "StreamedInteractions",
    "ValidationProtocol",
    "fetch_movielens",
    "histories",
    "is_fetched",
    "movielens",
    "personal_columns",
    "pseudonym",
    "pseudonymise",
    "read_interactions",
    "read_sql",
    "split_by_item",
    "split_by_time",
    "split_by_user",
    "split_cold_items",
    "split_cold_users",
    "split_domain",
    "split_leave_last_out",
    "stream_interactions",
    "synthetic",
    "synthetic_factors",
    "user_histories",
]
