"""What a client knows of a request while its events come in. Pure."""

from collections import Counter
from dataclasses import dataclass, field

from schemas.events import AnswerReached, Event, PathDecoded, PathFailed, PlanMade, RequestFailed, StepDecided


@dataclass(slots=True)
class Progress:
    """One request, as its events tell it."""

    request_id: str
    plan: PlanMade | None = None
    launched: int = 0
    num_failed: int = 0
    votes: Counter[str] = field(default_factory=Counter)
    num_paths: int = 0
    verdicts: dict[int, StepDecided] = field(default_factory=dict)
    result: AnswerReached | RequestFailed | None = None

    def hear(self, event: Event) -> bool:
        """True when the event was about this request."""
        match event:
            case PathDecoded() | PathFailed():
                if event.context.request_id != self.request_id:
                    return False
                self._path(event)
            case PlanMade() if event.request_id == self.request_id:
                self.plan = event
            case StepDecided() if event.request_id == self.request_id:
                self.verdicts[event.step_index] = event
            case AnswerReached() | RequestFailed() if event.request_id == self.request_id:
                self.result = event
            case _:
                return False
        return True

    def _path(self, event: PathDecoded | PathFailed) -> None:
        self.launched = max(self.launched, event.launched)
        if isinstance(event, PathFailed):
            self.num_failed += 1
            return
        self.num_paths += 1
        if event.answer is not None:
            self.votes[event.answer] += 1


def tally_text(rows: dict[str, int] | Counter[str], *, limit: int = 6) -> str:
    """Votes as `36 x7, 38 x1`, most first."""
    ordered = sorted(rows.items(), key=lambda row: (-row[1], row[0]))
    shown = ", ".join(f"{answer} x{votes}" for answer, votes in ordered[:limit])
    return shown + (f", {len(ordered) - limit} more" if len(ordered) > limit else "") or "no votes"
