"""Where the commands find Kafka, Postgres and the services: the environment first, then this checkout's stack."""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from conclave.runtime.brokers import Brokers

BOOTSTRAP, DSN = "CONCLAVE_BOOTSTRAP_SERVERS", "CONCLAVE_POSTGRES_DSN"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What is known of where things are; None where nothing is."""

    bootstrap_servers: str | None
    postgres_dsn: str | None
    http: dict[str, str]  # service -> http://host:port of /ready and /metrics
    web: dict[str, str] = field(default_factory=dict)  # service -> http://host:port of what it serves to people


def find() -> Endpoints:
    """Everything that is known."""
    local = _local()
    return Endpoints(
        os.environ.get(BOOTSTRAP) or local.bootstrap_servers,
        os.environ.get(DSN) or local.postgres_dsn,
        local.http,
        local.web,
    )


def brokers() -> "Brokers":
    """The brokers. Raises: click.ClickException that says how to name them, Misconfigured."""
    from conclave.runtime.brokers import Brokers, BrokerSettings
    from conclave.runtime.settings import load

    if os.environ.get(BOOTSTRAP):
        return load(BrokerSettings).brokers
    found = find().bootstrap_servers
    if found is None:
        raise click.ClickException(f"no broker is known here: start the stack with `conclave up`, or set {BOOTSTRAP}")
    return Brokers(found)


def postgres_dsn() -> str:
    """The database. Raises: click.ClickException that says how to name it."""
    found = find().postgres_dsn
    if found is None:
        raise click.ClickException(f"no database is known here: start the stack with `conclave up`, or set {DSN}")
    return found


def _local() -> Endpoints:
    from conclave.local.errors import LocalStackError
    from conclave.local.state import endpoints

    try:
        found = endpoints()
    except LocalStackError:
        return Endpoints(None, None, {})
    except PermissionError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}. Was it made by another user?") from None
    return Endpoints(found.bootstrap_servers, found.postgres_dsn, found.http, found.web)
