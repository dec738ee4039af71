"""The distinct answers of one step or of several drafts, and a step that makes one of them: what select and synthesise share.

Drafts are steps of their own, so that answers of any length are kept whole; one draft of many paths does for short ones. What
the last step comes to is an answer as any other: its paths cast ballots for it. Without one, the vote on the drafts decides.
"""

from dataclasses import dataclass

from conclave.domain import bounds, choices
from conclave.domain.equivalence import are_same
from conclave.domain.params import Param, Params, number, whole_number
from conclave.domain.thought import Conclude, Grow, Strategy, Thought, surest
from schemas.values import MAX_QUESTION_CHARS, Step

# From `enough` of all votes on, the leading answer needs no choice.
PARAMS: Params = {"drafts": Param(1, 1, 16, is_whole=True), "enough": Param(0.9, 0.0, 1.0)}
_WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct answer: its votes over all drafts, and the draft that gave it first and most clearly."""

    text: str
    votes: float
    step_index: int


def strategy(ask: str) -> Strategy:
    """Drafts, then a step of `ask` that is given their candidates."""

    def think(thought: Thought) -> Grow | Conclude:
        """The drafts, the choice among what they came to, and the end on it, or on the vote."""
        if not thought.steps and not thought.must_end:
            return _drafts(thought)
        candidates = _candidates(thought)
        made = next((step.index for step in thought.steps if step.ask == ask), None)
        if made is not None and thought.answer(made):
            return Conclude(made, thought.verdicts[made].confidence)
        if made is not None or thought.must_end or not candidates:
            return _voted(thought, candidates)
        total = sum(each.votes for each in candidates)
        shown = _shown(candidates)
        if len(shown) < 2 or candidates[0].votes >= number(thought.params, PARAMS, "enough") * total:
            return _voted(thought, candidates)
        why = f"{len(candidates)} answers, the first with {candidates[0].votes / total:.0%} of the votes"
        if len(shown) < len(candidates):
            why += f"; {len(candidates) - len(shown)} are not shown"
        fields = {"question": thought.question, "candidates": choices.written(shown)}
        drafts = tuple(step.index for step in thought.steps)
        return Grow((Step(index=len(drafts), ask=ask, fields=fields, mark=ask, depends_on=drafts, why=why),))

    return Strategy(think, asks={_WHOLE: ("question",), ask: ("question", "candidates")}, params=PARAMS)


def _drafts(thought: Thought) -> Grow:
    num_drafts = whole_number(thought.params, PARAMS, "drafts")
    marks = [f"draft {place + 1}" if num_drafts > 1 else "" for place in range(num_drafts)]
    fields = {"question": thought.question}
    return Grow(tuple(Step(index=at, ask=_WHOLE, fields=fields, mark=mark) for at, mark in enumerate(marks)))


def _candidates(thought: Thought) -> list[Candidate]:
    """The distinct answers of all drafts, most votes first, and among equals the earliest."""
    found: list[Candidate] = []
    for step in thought.steps:
        verdict = thought.verdicts.get(step.index)
        if step.ask != _WHOLE or verdict is None or not verdict.answer:
            continue
        for place, row in enumerate(verdict.tally):
            text = verdict.answer if place == 0 else row.answer
            if not text.strip() or (bounds.is_cut(text) and place > 0):
                continue
            same = next((at for at, each in enumerate(found) if _same(each.text, text)), None)
            if same is None:
                found.append(Candidate(text, row.weight, step.index))
            else:
                found[same] = Candidate(found[same].text, found[same].votes + row.weight, found[same].step_index)
    return sorted(found, key=lambda each: -each.votes)


def _same(one: str, other: str) -> bool:
    return one.strip() == other.strip() or are_same(one, other)


def _shown(candidates: list[Candidate]) -> list[str]:
    """The candidates that a prompt has room for, each of them whole."""
    shown: list[str] = []
    for each in candidates[: choices.MAX_CANDIDATES]:
        text = each.text.replace("\r", " ").strip()
        fits = len(choices.written([*shown, text])) <= MAX_QUESTION_CHARS
        if (
            fits
            and not bounds.is_cut(text)
            and choices.candidates_of(choices.written([*shown, text])) == (*shown, text)
        ):
            shown.append(text)
    return shown


def _voted(thought: Thought, candidates: list[Candidate]) -> Conclude:
    """The end on the draft that the answer with the most votes leads; on the surest where it leads none."""
    drafts = {step.index for step in thought.steps if step.ask == _WHOLE}
    leading = {
        index for index in drafts if candidates and (text := thought.answer(index)) and _same(text, candidates[0].text)
    }
    return surest(thought, among=leading or drafts)
