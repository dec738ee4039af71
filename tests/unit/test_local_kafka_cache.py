"""A JVM that reads altered classes crashes: the cache is used only as it was made, and for what it was made of."""

import os
from pathlib import Path

import pytest

from conclave.local.servers.jars import Jar
from conclave.local.servers.kafka_cache import cache_file, keep_cache, usable_cache

_JAR = Jar("org.example", "broker", "1", "", 3)
_FLAGS = ("-Xmx1m",)


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """A JDK as far as it matters here: its release file."""
    (tmp_path / "jdk" / "bin").mkdir(parents=True)
    (tmp_path / "jdk" / "release").write_text('JAVA_VERSION="25"')
    return tmp_path / "jdk" / "bin" / "java"


@pytest.fixture
def jars(tmp_path: Path, java: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of jars, of which there is one, with a cache."""
    monkeypatch.setattr("conclave.local.servers.kafka_cache.locked_jars", lambda: [_JAR])
    _JAR.path_in(tmp_path / "jars").parent.mkdir(parents=True)
    _JAR.path_in(tmp_path / "jars").write_bytes(b"jar")
    (tmp_path / "made").write_bytes(b"classes")
    keep_cache(tmp_path / "made", tmp_path / "jars", java, _FLAGS)
    return tmp_path / "jars"


def test_a_cache_is_found_by_the_jvm_for_which_it_was_made(jars: Path, java: Path) -> None:
    assert usable_cache(jars, java, _FLAGS) == cache_file(jars)


def test_a_cache_of_other_flags_or_another_jdk_is_not_used(jars: Path, java: Path) -> None:
    assert usable_cache(jars, java, ("-Xmx2m",)) is None
    (java.parents[1] / "release").write_text('JAVA_VERSION="26"')
    assert usable_cache(jars, java, _FLAGS) is None


def test_a_cache_of_a_jar_that_was_fetched_again_is_not_used(jars: Path, java: Path) -> None:
    os.utime(_JAR.path_in(jars), (1, 1))
    assert usable_cache(jars, java, _FLAGS) is None


@pytest.mark.parametrize("content", [b"", b"classe", b"Classes"])
def test_an_altered_cache_is_not_used(jars: Path, java: Path, content: bytes) -> None:
    cache_file(jars).write_bytes(content)
    assert usable_cache(jars, java, _FLAGS) is None


def test_without_a_cache_or_a_note_of_it_there_is_none(jars: Path, java: Path) -> None:
    cache_file(jars).with_suffix(".json").write_bytes(b"{")
    assert usable_cache(jars, java, _FLAGS) is None
    cache_file(jars).unlink()
    assert usable_cache(jars, java, _FLAGS) is None
