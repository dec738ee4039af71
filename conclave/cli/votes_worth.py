"""What the votes of recorded sets are worth, and which figures may weigh them, in lines for a person."""

from conclave.domain.correlation import correlation, effective_votes
from conclave.domain.discrimination import discrimination
from conclave.domain.replay import Recording, same
from conclave.domain.weighing import WEIGHINGS
from schemas.values import Ask


def worth(sets: dict[str, list[Recording]], equivalence: str) -> list[str]:
    """What votes are worth on each set whose right answers are known."""
    ask = Ask(form="any", equivalence=equivalence)
    lines = []
    for name, found in sets.items():
        known = [each for each in found if each.gold is not None]
        least = min((len(each.ballots) for each in known), default=0)
        told = correlation([(_num_wrong(each, least, ask), least) for each in known])
        if told is not None:
            worth = effective_votes(least, told.rho)
            lines.append(
                f"{name}: errors correlate by {told.rho:.2f}: {least} votes are worth {worth:.1f} independent ones"
            )
    return lines


def _num_wrong(recording: Recording, num_samples: int, ask: Ask) -> int:
    assert recording.gold is not None
    return sum(not (each.answer and same(each.answer, recording.gold, ask)) for each in recording.ballots[:num_samples])


def gate(sets: dict[str, list[Recording]], equivalence: str) -> list[str]:
    """Which figures tell right from wrong within questions."""
    ask = Ask(form="any", equivalence=equivalence)
    everything = [each for found in sets.values() for each in found]
    lines = []
    for name, weighing in WEIGHINGS.items():
        if weighing.figure is None or name.startswith("softmax"):
            continue
        found = discrimination(everything, weighing.figure, ask)
        if found is not None:
            verdict = "recommended" if found.is_recommended else "not recommended"
            within = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
            lines.append(
                f"{name}: discriminates within {found.num_questions} questions by {within}: {verdict} as weight"
            )
    return lines
