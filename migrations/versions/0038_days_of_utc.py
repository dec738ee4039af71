"""A day of the analysts' views is one of UTC, as partitions are: it was one of whoever looked.

A session in another time zone got other rows of `arms_by_day`, `feedback_lag` and `vote_correlation_by_day`: what was asked in one
day of UTC lay in two of theirs, and no two sessions' sums agreed. Views are rewritten from what the database has, so that all else
of them stays.
"""

import re

from alembic import op

revision = "0038"
down_revision = "0037"

_VIEWS = ("arms_by_day", "feedback_lag", "vote_correlation_by_day")
_OF_THE_SESSION = re.compile(r"date_trunc\('day'::text, ([\w.]+)\)")
_OF_UTC = re.compile(r"date_trunc\('day'::text, ([\w.]+), 'UTC'::text\)")


def upgrade() -> None:
    """The same columns, by days of UTC."""
    _rewrite(_OF_THE_SESSION, r"date_trunc('day'::text, \1, 'UTC'::text)")


def downgrade() -> None:
    """By days of the session again."""
    _rewrite(_OF_UTC, r"date_trunc('day'::text, \1)")


def _rewrite(pattern: re.Pattern[str], by: str) -> None:
    connection = op.get_bind()
    for view in _VIEWS:
        query = connection.exec_driver_sql(f"SELECT pg_get_viewdef('{view}'::regclass)").scalar_one()
        rewritten, count = pattern.subn(by, query)
        if not count:
            raise ValueError(f"{view} truncates no day as expected")
        connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {view} AS {rewritten}")
