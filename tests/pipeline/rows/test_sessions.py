"""Session ids that cannot stand for users; Histories has the tests of what sessions give."""

import pyarrow as pa
import pytest

from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.events import RowCheck, typed_events
from tfrec_meta.pipeline.rows.cleaning import with_session_ids
from tfrec_meta.pipeline.rows.sessions import sessions_as_users


def events(*session_ids, **columns):
    rows = len(session_ids)
    table = {"user_id": ["ann", "bob", "cid"][:rows], "item_id": ["tea"] * rows, **columns}
    return typed_events(pa.table({**table, "session_id": list(session_ids)}), RowCheck())


def refused(sessions, table, timed=True):
    with pytest.raises(ValueError) as error:
        sessions_as_users(table, sessions, CleaningRules(), timed)
    return str(error.value)


def test_a_session_of_several_users_is_refused():
    assert "the session 's1' has events of several users" in refused("visit", events("s1", "s1"))


@pytest.mark.parametrize("missing", [None, " ", "a\nb"])
def test_a_missing_session_id_is_refused(missing):
    with pytest.raises(ValueError, match="row 2, column `session_id`: the id is missing or has a"):
        with_session_ids(events("s1", missing))


def test_a_missing_column_of_session_ids_is_refused():
    with pytest.raises(ValueError, match=r"no column for `session_id`, which data\.sessions names"):
        with_session_ids(events("s1").drop_columns(["session_id"]))


def test_a_gap_needs_times_and_no_session_ids():
    times = events("s1", "s2", time=[1, 2])
    assert "has a column `session_id` already; set data.sessions" in refused("30m", times)
    bare = events("s1", "s2").drop_columns(["session_id"])
    assert "has no times, and so no idle gaps" in refused("30m", bare, timed=False)


def test_the_id_of_a_session_stays_as_later_events_are_added():
    table = events("", "", time=[100, 200]).drop_columns(["session_id"])
    first, _ = sessions_as_users(table, "30m", CleaningRules(), True)
    later = events("", "", "", time=[100, 200, 3000]).drop_columns(["session_id"])
    second, _ = sessions_as_users(later, "30m", CleaningRules(), True)
    ids = first["user_id"].to_pylist()
    assert second["user_id"].to_pylist()[:2] == ids
    assert len(set(second["user_id"].to_pylist())) == 3
    assert not {"ann", "bob"} & set(ids)
