"""Kafka's classes as its JVM has them once they are loaded and linked, in one file: a broker starts with half the CPU time.

The file is the JDK's own AOT cache (JEP 483 and 514), made by conclave.local.kafka_training. It is a convenience: where it
is absent, altered, or of other jars, flags or another JDK, Kafka starts without it.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from conclave.local.servers.jars import locked_jars


class _Made(msgspec.Struct, frozen=True):
    """What a cache was made of, and what its bytes must be: a JVM that reads altered ones crashes."""

    key: str
    sha256: str


def cache_file(jars_dir: Path) -> Path:
    """Where the cache of these jars lies."""
    return jars_dir / "kafka.aot"


def usable_cache(jars_dir: Path, java: Path, flags: Sequence[str]) -> Path | None:
    """The cache, if it is whole and was made of the locked jars by this JDK with these flags."""
    path = cache_file(jars_dir)
    try:
        made = msgspec.json.decode(_note(path).read_bytes(), type=_Made)
        is_usable = made == _Made(_key(jars_dir, java, flags), _sha256(path))
    except (OSError, msgspec.MsgspecError):
        return None
    return path if is_usable else None


def keep_cache(made: Path, jars_dir: Path, java: Path, flags: Sequence[str]) -> Path:
    """Puts a cache that was made where brokers look for it. One killed in between leaves none."""
    path = cache_file(jars_dir)
    _note(path).unlink(missing_ok=True)
    made.replace(path)
    _note(path).write_bytes(msgspec.json.encode(_Made(_key(jars_dir, java, flags), _sha256(path))))
    return path


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _key(jars_dir: Path, java: Path, flags: Sequence[str]) -> str:
    """A digest of all for which a JVM would refuse a cache. It knows jars by size and date."""
    stats = [(jar.coordinate, jar.path_in(jars_dir).stat()) for jar in locked_jars()]
    jars = [f"{coordinate} {stat.st_size} {stat.st_mtime_ns}".encode() for coordinate, stat in stats]
    release = (java.parents[1] / "release").read_bytes()
    return hashlib.sha256(b"\0".join([release, *jars, *map(str.encode, flags)])).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
