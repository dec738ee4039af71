"""PostgreSQL over TLS on a real server: encrypted, and refused where its certificate is not trusted or is another's.

The embedded server is built without TLS, so this takes Debian's, or whatever PostgreSQL with TLS is on PATH; without one it is
skipped.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from conclave.errors import LostDependency, Misconfigured
from conclave.local.machine.ports import LOOPBACK
from conclave.local.servers.postgres import PostgresServer
from conclave.local.servers.postgres_files import Binaries
from conclave.store.migrate import upgrade
from conclave.store.reader import Reader
from tests.certificates import Authority
from tests.integration.conftest import finish

CHECKOUT = Path(__file__).resolve().parents[2]
ANOTHER_NAME = "127.0.0.2"  # the server listens there too, and its certificate does not say so


def _with_tls() -> Binaries | None:
    """The newest PostgreSQL of this machine that is built with TLS, and knows all that the migrations need."""
    found = [shutil.which("postgres"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres"))]
    servers = {Path(each).resolve() for each in found if each}
    versions = [
        Binaries(server.parent, version)
        for server in servers
        if "libssl" in _told(["ldd", str(server)])
        and (version := int(_told([str(server), "-V"]).split()[2].split(".")[0])) >= 15
    ]
    return max(versions, key=lambda each: each.version, default=None)


def _told(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


class GuardedServer(PostgresServer):
    """A server that speaks TLS, and asks clients for a certificate of the authority, should they have one."""

    def __init__(self, home: Path, binaries: Binaries, authority: Authority) -> None:
        super().__init__(home)
        self._binaries, self._authority = binaries, authority
        self._issued = authority.issue("postgres")

    async def _initialise_once(self) -> None:
        await super()._initialise_once()
        for name, source in (
            ("server.crt", self._issued.certificate),
            ("server.key", self._issued.key),
            ("root.crt", self._authority.certificate),
        ):
            target = self._data / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            if self._account.is_lent:
                os.chown(target, *self._account.ids)

    def _options(self, port: int) -> list[str]:
        return [*super()._options(port), "-c", f"listen_addresses={LOOPBACK},{ANOTHER_NAME}", "-c", "ssl=on",
                "-c", "ssl_ca_file=root.crt"]  # fmt: skip


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the server's certificate is of."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(session_dir: Path, authority: Authority) -> Iterator[GuardedServer]:
    """A server with TLS, and the record's tables made over it."""
    binaries = _with_tls()
    if binaries is None:
        pytest.skip("no PostgreSQL with TLS is installed here (Debian: the package `postgresql`)")
    server = GuardedServer(session_dir / "postgres-tls", binaries, authority)
    finish(server.start())
    try:
        upgrade(_dsn(server, authority, "verify-full"))
        yield server
    finally:
        finish(server.stop())


def _dsn(server: PostgresServer, authority: Authority, mode: str, **more: str) -> str:
    told = {"sslmode": mode, "sslrootcert": str(authority.certificate), **more}
    return f"{server.dsn()}?{'&'.join(f'{name}={value}' for name, value in told.items() if value)}"


async def _session(dsn: str) -> tuple[bool, str | None]:
    """Whether a connection of this DSN is encrypted, and as whom its client showed itself."""
    reader = Reader(dsn)
    try:
        (row,) = await reader.rows("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return bool(row["ssl"]), row["client_dn"]
    finally:
        await reader.close()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_the_record_is_read_over_tls(server: GuardedServer, authority: Authority, mode: str) -> None:
    assert await _session(_dsn(server, authority, mode)) == (True, None)


async def test_a_client_may_show_a_certificate(server: GuardedServer, authority: Authority) -> None:
    client = authority.issue("client")
    shown = {"sslcert": str(client.certificate), "sslkey": str(client.key)}
    assert await _session(_dsn(server, authority, "verify-full", **shown)) == (True, "/CN=client")


async def test_without_tls_nothing_is_encrypted_and_without_a_root_require_trusts_anybody(
    server: GuardedServer, authority: Authority
) -> None:
    assert await _session(_dsn(server, authority, "disable", sslrootcert="")) == (False, None)
    assert await _session(_dsn(server, authority, "require", sslrootcert="")) == (True, None)


async def test_a_server_of_another_name_or_of_nobody_s_counts_as_away_and_no_password_is_told(
    server: GuardedServer, authority: Authority, tmp_path: Path
) -> None:
    right, password = _dsn(server, authority, "verify-full"), (server.home / "password").read_text()
    elsewhere = right.replace(f"@{LOOPBACK}:", f"@{ANOTHER_NAME}:")
    assert await _session(elsewhere.replace("verify-full", "verify-ca")) == (True, None)
    for dsn in (elsewhere, _dsn(server, Authority(tmp_path, "another"), "verify-full")):
        with pytest.raises(LostDependency) as caught:
            await _session(dsn)
        assert "certificate verify failed" in str(caught.value)
        assert password not in str(caught.value)
    with pytest.raises(Misconfigured):
        await _session(_dsn(server, authority, "verify-full", sslrootcert=str(tmp_path / "none.pem")))


async def test_a_command_reads_the_same_words_from_the_environment(server: GuardedServer, authority: Authority) -> None:
    environment = {**os.environ, "CONCLAVE_POSTGRES_DSN": _dsn(server, authority, "verify-full")}
    command = [sys.executable, "-m", "conclave.cli", "keys", "create", "--tenant", "ours"]
    made = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, env=environment, cwd=CHECKOUT, check=True
    )
    assert made.stdout.startswith("cnv_")
    connection = await asyncpg.connect(server.dsn(), ssl=False)
    try:
        assert await connection.fetchval("SELECT count(*) FROM api_keys WHERE tenant = 'ours'") == 1
    finally:
        await connection.close()
