"""What may be done to an experiment, given what was done to it before. Pure."""

from collections.abc import Iterable

from conclave.errors import ConclaveError
from schemas.events import Event, ExperimentChanged
from schemas.experiments import Change, Experiment


class Impossible(ConclaveError):
    """A change that makes no sense now; it says why."""


def newest(events: Iterable[Event]) -> dict[str, ExperimentChanged]:
    """The change in force of each experiment: the newest revision, and of equal ones the last in the log."""
    found: dict[str, ExperimentChanged] = {}
    for event in events:
        if isinstance(event, ExperimentChanged):
            known = found.get(event.experiment)
            if known is None or event.revision >= known.revision:
                found[event.experiment] = event
    return dict(sorted(found.items()))


def started(
    definition: Experiment, known: ExperimentChanged | None, *, by: str, why: str, now_ms: int
) -> ExperimentChanged:
    """The start of a run. Raises: Impossible where the same definition runs already."""
    is_running = known is not None and known.change is Change.START
    if is_running and known is not None and known.definition.digest == definition.digest:
        raise Impossible(f"{definition.name} runs already, as revision {known.revision}")
    revision = 1 if known is None else known.revision + 1
    return ExperimentChanged(
        experiment=definition.name,
        revision=revision,
        change=Change.START,
        definition=definition,
        by=by,
        why=why,
        changed_ms=now_ms,
    )


def ended(
    known: ExperimentChanged | None, change: Change, *, by: str, why: str, now_ms: int, arm: str | None = None
) -> ExperimentChanged:
    """A stop, a kill or a promotion. Raises: Impossible for an experiment that never began, or an arm that it has not.

    It keeps the revision of the run that it ends: feedback on that run's assignments still counts.
    """
    if known is None:
        raise Impossible("no such experiment was ever started")
    if arm is not None and arm not in known.definition.arms:
        raise Impossible(f"{known.experiment} has no arm {arm}; there are: {', '.join(known.definition.arms)}")
    return ExperimentChanged(
        experiment=known.experiment,
        revision=known.revision,
        change=change,
        definition=known.definition,
        by=by,
        why=why,
        changed_ms=now_ms,
        arm=arm,
    )


def began_at(change: ExperimentChanged, events: Iterable[Event]) -> int:
    """When the run of a change began, in milliseconds."""
    starts = [
        event.changed_ms
        for event in events
        if isinstance(event, ExperimentChanged)
        and (event.experiment, event.revision) == (change.experiment, change.revision)
    ]
    return min(starts, default=change.changed_ms)
