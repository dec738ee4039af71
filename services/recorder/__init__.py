"""The recorder: every event into Postgres."""
