"""What a process's memory is made of: mappings by what they are for, and what its allocators say from within."""

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.memory import inside
from benchmarks.memory.mappings import ANONYMOUS, ARENAS, BRK, FILES, STACKS, resident_mib, resident_of
from benchmarks.memory.report import inside as sections_of
from benchmarks.memory.report import rows_of

MIB = 2**20


def mapping(first: int, size: int, rss_kib: int, name: str = "", *, rights: str = "rw-p", inode: int = 0) -> str:
    return (
        f"{first:x}-{first + size:x} {rights} 00000000 08:01 {inode}    {name}\n"
        f"Size: {size // 1024} kB\nRss: {rss_kib} kB\nPss: 1 kB\nVmFlags: rd wr\n"
    )


def test_mappings_are_told_apart_by_what_they_are_for() -> None:
    arena, thread = 0x7F0000000000, 0x7F1000001000
    smaps = (
        mapping(0x5500_0000_0000, MIB, 512, "/usr/bin/python3", inode=7, rights="r-xp")
        + mapping(0x5600_0000_0000, 8 * MIB, 4096, "[heap]")
        + mapping(arena, MIB, 1024)
        + mapping(arena + MIB, 63 * MIB, 0, rights="---p")
        + mapping(thread - 4096, 4096, 0, rights="---p")
        + mapping(thread, 8 * MIB, 64)
        + mapping(0x7F2000100000, 8 * MIB, 2048)
        + mapping(0x7FFF00000000, MIB, 128, "[stack]")
    )
    assert resident_mib(smaps) == {BRK: 4.0, ARENAS: 1.0, STACKS: 0.1875, ANONYMOUS: 2.0, FILES: 0.5}


def test_mappings_come_to_what_the_kernel_says_is_resident() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert sum(resident_of(os.getpid()).values()) == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE") / MIB, rel=0.05)


@contextmanager
def no_collection() -> Iterator[None]:
    """Garbage of tests before is gone, and none is collected meanwhile: it would count as freed by what is looked at."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_what_is_held_is_told_by_the_allocator_that_holds_it() -> None:
    with no_collection():
        before = inside.look()
        small, large = [object() for _ in range(400_000)], bytes(32 * MIB)
        after = inside.look()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["pymalloc in use"] == pytest.approx(len(small) * 16 / MIB, rel=0.2)
    assert grown["blocks"] == pytest.approx(len(small), rel=0.02), "a few of other threads come and go"
    assert grown["malloc mapped"] + grown["malloc in use"] >= len(large) / MIB
    assert after["pymalloc arenas"] >= after["pymalloc in use"]


def test_a_report_has_a_section_for_each_process_and_says_what_grew(tmp_path: Path) -> None:
    looks = [
        {"at": 10.0 * number, "figures": {"brk heap": 50.0 + number % 2, "objects": 10.0 * number}}
        for number in range(80)
    ]
    for number in (0, 40, 79):
        looks[number]["types"] = {"Ask": 5, "Leaked": number}
    (tmp_path / "voter.jsonl").write_text("".join(json.dumps(each) + "\n" for each in looks) + '{"at": 8')
    (section,) = sections_of(tmp_path)
    assert section.title == "Inside voter"
    assert "Leaked +39" in section.about
    heap, objects = section.rows
    assert (heap[0], heap[-1]) == ("brk heap", "yes")
    assert (objects[0], objects[4], objects[5]) == ("objects", "3600.0 ± 0.0", "no")


def test_a_slope_is_told_in_whatever_the_looks_go_on_in() -> None:
    looks = [(float(number), {"blocks": 2.0 * number}) for number in range(80)]
    ((_, first, middle, last, slope, _),) = rows_of(looks, per=1000.0)
    assert (first, middle, last, slope) == ("0.0", "80.0", "158.0", "2000.0 ± 0.0")


def test_a_look_leaves_nothing_behind() -> None:
    inside.look()
    with no_collection():
        before = len(gc.get_objects())
        for _ in range(5):
            inside.look()
        left = len(gc.get_objects()) - before
    assert left < 5, "each look leaves objects that only a full collection would free"
