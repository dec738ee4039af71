"""What a client knows of a request while its events come in. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from conclave.domain.equivalence import EQUIVALENCES
from schemas.events import AnswerReached, Event, PathDecoded, PathFailed, PlanMade, RequestFailed, StepDecided


@dataclass(slots=True)
class StepProgress:
    """One step: how many of its samples have ended, and what they voted for."""

    launched: int = 0
    num_paths: int = 0
    num_failed: int = 0
    answers: dict[int, str] = field(default_factory=dict)
    verdict: StepDecided | None = None

    def add(self, event: PathDecoded | PathFailed) -> None:
        """Takes in the end of one sample."""
        self.launched = max(self.launched, event.launched)
        if isinstance(event, PathFailed):
            self.num_failed += 1
            return
        self.num_paths += 1
        if event.answer is not None:
            self.answers[event.sample_index] = event.answer

    def votes(self) -> Mapping[str, int]:
        """Votes so far, counted as the voter does: 36 and 36.0 are one row, as the first of them wrote it."""
        answers = [answer for _, answer in sorted(self.answers.items())]
        first: dict[str, str] = {}
        votes: Counter[str] = Counter()
        for answer, label in zip(answers, EQUIVALENCES["short_answer"](answers), strict=True):
            if label:
                votes[first.setdefault(label, answer)] += 1
        return votes


@dataclass(slots=True)
class Progress:
    """One request, as its events tell it."""

    request_id: str
    plan: PlanMade | None = None
    steps: dict[int, StepProgress] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)  # that decoded its paths
    result: AnswerReached | RequestFailed | None = None

    def hear(self, event: Event) -> bool:
        """True when the event was about this request."""
        match event:
            case PathDecoded() | PathFailed() if event.context.request_id == self.request_id:
                self._step(event.context.step_index).add(event)
                if isinstance(event, PathDecoded):
                    self.models.add(event.model)
            case PlanMade() if event.request_id == self.request_id:
                self.plan = event
            case StepDecided() if event.request_id == self.request_id:
                self._step(event.step_index).verdict = event
            case AnswerReached() | RequestFailed() if event.request_id == self.request_id:
                self.result = event
            case _:
                return False
        return True

    def _step(self, index: int) -> StepProgress:
        return self.steps.setdefault(index, StepProgress())


def tally_text(rows: Mapping[str, int], *, limit: int = 6) -> str:
    """Votes as `36 x7, 38 x1`, most first."""
    ordered = sorted(rows.items(), key=lambda row: (-row[1], row[0]))
    shown = ", ".join(f"{answer} x{votes}" for answer, votes in ordered[:limit])
    return shown + (f", {len(ordered) - limit} more" if len(ordered) > limit else "") or "no votes"
