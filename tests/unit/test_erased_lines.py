"""What is left of a file of a batch when some of its lines are erased."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.store.erased_lines import without

SECRET = "S3CR3T"


def line(name: str, words: str) -> str:
    return json.dumps({"custom_id": name, "body": {"messages": [{"role": "user", "content": words}]}})


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", "\n\n \n"]))
def test_erased_lines_say_nothing_and_all_others_what_they_said_under_the_same_number(
    are_erased: list[bool], end: str
) -> None:
    lines = [line(f"l{at}", SECRET if is_erased else f"kept {at}") for at, is_erased in enumerate(are_erased)]
    named = {at: f"l{at}" for at, is_erased in enumerate(are_erased) if is_erased}
    content, is_bare = without(end.join(lines) + end, named)
    assert SECRET not in content
    left = content.splitlines()
    assert [json.loads(each)["custom_id"] for each in left] == [f"l{at}" for at in range(len(lines))]
    assert [left[at] for at in range(len(lines)) if at not in named] == [
        lines[at] for at in range(len(lines)) if at not in named
    ]
    assert is_bare is all(are_erased)
    assert without(content, named) == (content, is_bare), "again it is the same"


def test_lines_that_are_erased_one_after_another_leave_a_bare_file_in_the_end() -> None:
    content, is_bare = without(f"{line('a', SECRET)}\n{line('b', SECRET)}\n", {0: "a"})
    assert not is_bare
    content, is_bare = without(content, {1: "b"})
    assert is_bare
    assert SECRET not in content


def test_of_a_file_whose_lines_are_not_those_that_were_asked_nothing_is_left() -> None:
    for content in (f"{line('a', SECRET)}\n", f"{SECRET}\n{line('b', SECRET)}\n", "[1]\n2\n", ""):
        assert without(content, {1: "a"}) == ("", True)
