"""The embedded stack: real Kafka, real PostgreSQL, the shipped model and every service, without Docker.

errors -> ports, process -> jars, kafka, postgres (a part each) -> state, services, supervisor (the stack) -> commands.
"""
