"""The record in Postgres: tables, bulk writes, queries and views. The only package that knows SQLAlchemy."""
