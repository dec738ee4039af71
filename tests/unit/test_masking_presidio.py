"""Presidio as a second masker: what it finds goes, whatever overlaps; what can't be had is a wrong setting."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.domain.api_keys import Scope
from conclave.domain.redaction import Span, masker, without
from conclave.errors import Misconfigured
from conclave.masking.presidio import Found, by_presidio
from conclave.masking.settings import PresidioSettings
from tests.gateway_in_memory import World

CONFIG = """
supported_languages: [en]
default_score_threshold: 0
nlp_configuration:
  nlp_engine_name: no_op
  models: [{lang_code: en, model_name: no_op}]
recognizer_registry:
  supported_languages: [en]
  recognizers:
    - {name: CreditCardRecognizer, type: predefined}
    - {name: UsSsnRecognizer, type: predefined}
    - {name: MedicalLicenseRecognizer, type: predefined}
"""
_SPANS = st.lists(
    st.builds(Span, st.integers(0, 40), st.integers(0, 40), st.sampled_from(["PERSON", "PLACE"]), st.floats(0, 1)),
    max_size=8,
)


def test_of_what_overlaps_the_surest_gives_its_label_and_all_of_it_goes() -> None:
    text = "Ann Lee of Paris called"
    spans = [Span(0, 3, "PLACE", 0.4), Span(0, 7, "PERSON", 0.8), Span(11, 16, "PLACE", 0.9)]
    assert without(text, spans) == "[PERSON] of [PLACE] called"
    assert without(text, spans[::-1]) == "[PERSON] of [PLACE] called"
    assert without(text, [Span(0, 3, "PERSON", 0.9), Span(3, 7, "PLACE", 0.9)]) == "[PERSON][PLACE] of Paris called"
    assert without(text, []) == text


@given(_SPANS)
def test_no_character_that_was_found_stays_and_every_other_one_does(spans: list[Span]) -> None:
    text = "".join(chr(0x4E00 + place) for place in range(40))  # each character once, and none in a label
    found = {place for span in spans for place in range(span.start, min(span.end, 40))}
    left = [character for character in without(text, spans) if character in text]
    assert left == [character for place, character in enumerate(text) if place not in found]


@dataclass(frozen=True, slots=True)
class _Name:
    entity_type: str
    start: int
    end: int
    score: float = 0.85


class _Analyzer:
    """Finds one name, and notes in which threads it was asked."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def analyze(self, *, text: str, language: str, entities: Sequence[str], score_threshold: float) -> list[Found]:
        self.threads.add(threading.get_ident())
        assert (language, entities, score_threshold) == ("en", ["PERSON"], 0.5)
        place = text.find("Ann Lee")
        return [] if place < 0 else [_Name("PERSON", place, place + 7)]


async def test_what_clients_send_is_masked_in_a_thread_of_its_own_before_it_is_published() -> None:
    found, world = _Analyzer(), World()
    presidio, patterns = by_presidio(found.analyze, ["PERSON"], language="en", score=0.5), masker()
    world.mask, world.is_mask_slow = (lambda text: presidio(patterns(text))), True
    key = world.accounts.add("ours", Scope.ASK, Scope.FEEDBACK)
    headers = {"Authorization": f"Bearer {key.text}"}
    body = {"question": "Ann Lee (ann@example.com) has 7 pens.", "tags": {"of": "Ann Lee"}}
    async with world.serving() as client:
        taken = await client.post("/v1/requests", json=body, headers=headers)
        said = {"request_id": taken.json()["id"], "comment": "Ask Ann Lee."}
        assert (await client.post("/v1/feedback", json=said, headers=headers)).status_code == 202
    asked, feedback = world.published
    assert asked.question == "[PERSON] ([EMAIL]) has 7 pens."  # type: ignore[attr-defined]
    assert asked.tags["of"] == "[PERSON]"  # type: ignore[attr-defined]
    assert feedback.comment == "Ask [PERSON]."  # type: ignore[attr-defined]
    assert threading.get_ident() not in found.threads


async def test_where_it_fails_nothing_is_published() -> None:
    world = World()

    def broken(text: str) -> str:
        raise ValueError(text)

    world.mask, world.is_mask_slow = broken, True
    async with world.serving() as client:
        refused = await client.post("/v1/requests", json={"question": "Ann Lee?"})
        assert refused.status_code == 500
        assert "Ann Lee" not in refused.text
    assert world.published == []


def test_nothing_is_asked_of_it_unless_entities_are_named() -> None:
    mask = masker()
    assert PresidioSettings().after(mask) is mask
    assert PresidioSettings.model_validate({"presidio_entities": "PERSON, UK_NHS,"}).presidio_entities == (
        "PERSON",
        "UK_NHS",
    )


@pytest.mark.skipif(find_spec("presidio_analyzer") is not None, reason="Presidio is installed")
def test_without_the_package_it_is_a_wrong_setting() -> None:
    with pytest.raises(Misconfigured, match="presidio"):
        PresidioSettings(presidio_entities=("PERSON",)).after(str)


@pytest.mark.skipif(find_spec("presidio_analyzer") is None, reason="needs the extra `presidio`")
def test_presidio_itself_masks_what_it_is_told_to_and_knows_no_other_words(tmp_path: Path) -> None:
    config = tmp_path / "analyzer.yaml"
    config.write_text(CONFIG)
    settings = PresidioSettings(presidio_entities=("US_SSN", "CREDIT_CARD"), presidio_config=config)
    said = settings.after(str)("My social security number is 536-90-4399, my card 4012888888881881, and 7 - 3 = 4.")
    assert said == "My social security number is [US_SSN], my card [CREDIT_CARD], and 7 - 3 = 4."
    with pytest.raises(Misconfigured, match="CREDIT_CARD"):
        PresidioSettings(presidio_entities=("NO_SUCH",), presidio_config=config).after(str)
