"""The documents hold together: links lead somewhere, and a decision has a number of its own."""

import re
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_DOCUMENTS = [_CHECKOUT / "README.md", _CHECKOUT / "models/reasoner/README.md", *(_CHECKOUT / "docs").rglob("*.md")]
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda each: each.stem)
def test_every_link_leads_to_a_file_or_folder_of_the_repository(document: Path) -> None:
    links = _LINK.findall(_BLOCK.sub("", document.read_text()))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_a_decision_has_a_number_of_its_own_and_says_it() -> None:
    decisions = sorted((_CHECKOUT / "docs" / "decisions").glob("*.md"))
    numbers = [int(each.name.partition("-")[0]) for each in decisions]
    assert numbers == list(range(1, len(decisions) + 1))
    said = [re.match(r"# (\d+)[.:]", each.read_text()) for each in decisions]
    assert [int(found[1]) if found else None for found in said] == numbers
