"""Kafka's published jars, fetched one by one as a checked-in list says, and never used unverified.

The list, kafka.lock, has a line an artifact: `group:artifact:version sha256 bytes`. A maintainer who changes versions
edits kafka.pom.xml and runs `python -m conclave.local.servers.jars lock`, which needs Maven: jgo's own resolver mixes versions.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from conclave.local.errors import ChecksumMismatch, DownloadFailed, PartMissing
from conclave.local.machine.process import disk_full, require_space

LOCK_FILE = Path(__file__).with_name("kafka.lock")
_POM_FILE = Path(__file__).with_name("kafka.pom.xml")
_RESOLVED = re.compile(r"\s+([\w.-]+):([\w.-]+):jar:([\w.-]+):(?:compile|runtime)")
_PARALLEL_DOWNLOADS = 4
_TRIES = 3
_SLACK_BYTES = 16 * 2**20
_DATE_S = 946_684_800  # the first second of 2000


class Jar(msgspec.Struct, frozen=True):
    """One published artifact and what its bytes must be."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def coordinate(self) -> str:
        """The name that Maven knows it by."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def path_in(self, repository: Path) -> Path:
        """Where it lies in a Maven repository folder."""
        return repository.joinpath(
            *self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar"
        )


class Progress:
    """Told what is fetched; does nothing. The stack's own puts it on its board."""

    def begin(self, total_bytes: int) -> None:
        """Some files must be fetched, of so many bytes in all."""

    def advance(self, num_bytes: int) -> None:
        """That many bytes more have arrived and are verified."""


def locked_jars(lock_file: Path = LOCK_FILE) -> list[Jar]:
    """The artifacts of the lock file, in its order, which is the class path's."""
    rows = (line.split() for line in lock_file.read_text().splitlines() if line and not line.startswith("#"))
    return [_jar(coordinate, sha256, int(size)) for coordinate, sha256, size in rows]


def _jar(coordinate: str, sha256: str, size: int) -> Jar:
    group, artifact, version = coordinate.split(":")
    return Jar(group, artifact, version, sha256, size)


def ensure_jars(repository: Path, progress: Progress | None = None, jars: list[Jar] | None = None) -> list[Path]:
    """The verified files of all jars, fetching what is absent or whose bytes are not the lock file's.

    Raises: DownloadFailed, ChecksumMismatch, DiskFull, PartMissing.
    """
    wanted = locked_jars() if jars is None else jars
    repository.mkdir(parents=True, exist_ok=True)
    with _exclusively(repository / "fetch.lock"):  # two commands at once fetch once
        missing = [jar for jar in wanted if not is_intact(jar, repository)]
        if missing:
            _fetch_all(missing, repository, progress or Progress())
        files = [jar.path_in(repository) for jar in wanted]
        for file in files:
            _date(file)
    return files


def _date(file: Path) -> None:
    """Gives a verified file the one date that all have: a JVM refuses a cache of classes when a jar's date is another one."""
    with contextlib.suppress(PermissionError):  # it is another user's
        if file.stat().st_mtime != _DATE_S:
            os.utime(file, (_DATE_S, _DATE_S))


def is_intact(jar: Jar, repository: Path) -> bool:
    """True when the file is there and its bytes are those of the lock file."""
    path = jar.path_in(repository)
    return path.is_file() and path.stat().st_size == jar.size and _sha256(path) == jar.sha256


def _fetch_all(missing: list[Jar], repository: Path, progress: Progress) -> None:
    total_bytes = sum(jar.size for jar in missing)
    require_space(repository, total_bytes + _SLACK_BYTES)
    progress.begin(total_bytes)
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS, thread_name_prefix="jar") as pool:
        downloads = {pool.submit(_fetch, jar, repository): jar for jar in missing}
        try:
            for download, jar in downloads.items():
                download.result()
                progress.advance(jar.size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(jar: Jar, repository: Path) -> None:
    """Fetches one artifact without resolving anything, and deletes it again unless its bytes are the promised ones."""
    path = jar.path_in(repository)
    reason = ""
    for _ in range(_TRIES):
        path.unlink(missing_ok=True)  # whatever is there was found wanting
        try:
            _download(jar, repository)
        except OSError as error:  # what requests raises is an OSError too
            path.unlink(missing_ok=True)
            if error.errno == 28:
                raise disk_full(repository) from error
            reason = _reason(error)
            continue
        except RuntimeError as error:
            reason = str(error)
            break
        found = _sha256(path)
        if found != jar.sha256:
            path.unlink()
            raise ChecksumMismatch(jar.coordinate, jar.sha256, found)
        return
    raise DownloadFailed(jar.coordinate, reason)


def _download(jar: Jar, repository: Path) -> None:
    try:
        from jgo.maven import MavenContext
    except ImportError as error:
        raise PartMissing("jgo, which fetches Kafka's jars,", "Install the extra `local`: `make setup`.") from error
    mirror = os.environ.get("CONCLAVE_MAVEN_URL")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None  # None: jgo's own default
    context = MavenContext(repo_cache=repository, remote_repos=remotes, timeout=30)
    context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()


def _reason(error: OSError) -> str:
    """What failed, without the layers that requests and urllib3 wrap it in."""
    if error.strerror:
        return error.strerror
    wrapped = error.args[0] if error.args else error
    cause = getattr(wrapped, "reason", wrapped)
    return f"{type(error).__name__}: {cause}"[:300]


@contextmanager
def _exclusively(lock_path: Path) -> Iterator[None]:
    """Holds a file lock that the kernel releases when the holder dies."""
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock() -> int:
    """Resolves kafka.pom.xml with Maven into kafka.lock and returns the number of jars. For maintainers."""
    with tempfile.TemporaryDirectory() as folder:
        repository, listing = Path(folder, "repository"), Path(folder, "resolved.txt")
        settings = [f"-Dmaven.repo.local={repository}", "-DincludeScope=runtime", f"-DoutputFile={listing}"]
        subprocess.run(["mvn", "-B", "-q", "-f", str(_POM_FILE), "dependency:list", *settings], check=True)
        found = sorted(match.groups() for match in _RESOLVED.finditer(listing.read_text()))
        jars = [Jar(group, artifact, version, sha256="", size=0) for group, artifact, version in found]
        lines = [_locked_line(jar, jar.path_in(repository)) for jar in jars]
    header = (
        "# Generated from kafka.pom.xml by `python -m conclave.local.servers.jars lock`: coordinate, sha256, bytes.\n"
    )
    LOCK_FILE.write_text(header + "".join(lines))
    return len(lines)


def _locked_line(jar: Jar, path: Path) -> str:
    return f"{jar.coordinate} {_sha256(path)} {path.stat().st_size}\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m conclave.local.servers.jars lock")
    print(f"{write_lock()} jars locked in {LOCK_FILE.name}")
