"""`postgresql://…` as libpq has it, with its words for TLS: sslmode, sslrootcert, sslcert, sslkey."""

import ssl
from dataclasses import dataclass

from sqlalchemy import URL, make_url

from conclave.errors import Misconfigured, WrongSetting

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey")
_SETTING = "CONCLAVE_POSTGRES_DSN"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, as SQLAlchemy's driver takes it, and how the way there is protected; None: as the driver likes."""

    url: URL
    tls: ssl.SSLContext | str | None


def address_of(dsn: str) -> Address:
    """What a DSN says. Raises: Misconfigured for a mode that is none, or files that are no certificates or key."""
    for scheme in ("postgresql+asyncpg://", "postgresql://", "postgres://"):
        if dsn.startswith(scheme):
            dsn = "postgresql+asyncpg://" + dsn.removeprefix(scheme)
            break
    url = make_url(dsn)
    told = {name: str(url.query[name]) for name in ("sslmode", *_FILES) if name in url.query}
    return Address(url.difference_update_query(["sslmode", *_FILES]), _tls(told))


def _tls(told: dict[str, str]) -> ssl.SSLContext | str | None:
    mode = told.get("sslmode", "verify-ca" if told else None)
    if mode is None:
        return None
    if mode not in _MODES:
        raise Misconfigured([WrongSetting(_SETTING, f"sslmode {', '.join(_MODES)}", mode)])
    if mode in ("disable", "allow", "prefer"):
        return mode
    try:
        context = ssl.create_default_context(cafile=told.get("sslrootcert"))
        context.check_hostname = mode == "verify-full"
        if mode == "require" and "sslrootcert" not in told:  # as libpq: nobody on the way reads it, whoever answers
            context.verify_mode = ssl.CERT_NONE
        if "sslcert" in told:
            context.load_cert_chain(told["sslcert"], told.get("sslkey"))
    except (ssl.SSLError, OSError) as error:
        raise Misconfigured([WrongSetting(_SETTING, f"sslrootcert, sslcert, sslkey as PEM ({error})", None)]) from None
    return context
