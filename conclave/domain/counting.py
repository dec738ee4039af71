"""A step's vote by the rules that its ask names: answers into clusters, ballots weighed, a winner, and how sure it is."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from msgspec.structs import replace

from conclave.domain import declining, path_watch
from conclave.domain.budget import num_affordable
from conclave.domain.calibration import calibrated
from conclave.domain.confidence import CONFIDENCES
from conclave.domain.equivalence import EQUIVALENCES, Equivalence, judged, rule_of
from conclave.domain.params import Params
from conclave.domain.schedules import SCHEDULES, Standing, num_to_launch
from conclave.domain.stopping import STOPPING_RULES, Labels, Stop, bound, needed_of_all, shortest_stop
from conclave.domain.structured import vote as structured
from conclave.domain.structured.answer_schema import is_usable
from conclave.domain.structured.fields import labels_by_field
from conclave.domain.voting import VOTING_RULES, VoteResult
from conclave.domain.weighing import WEIGHINGS, weight
from schemas.values import Ask, Ballot, FieldVerdict, Outcome, StopReason

_RECENT = 8  # paths by whose words an engine's load is judged


@dataclass(frozen=True, slots=True)
class Counted:
    """What a vote came to, how sure it is, and its ballots as they were counted: weighed, each with its row of the tally."""

    result: VoteResult
    confidence: float
    ballots: tuple[Ballot, ...]
    fields: tuple[FieldVerdict, ...] = ()  # of structured answers
    is_declined: bool = False  # most of what was counted says that this is no question for its model


def unknown_rule(ask: Ask) -> str | None:
    """The first rule that an ask names and no table has, as `stopping 'x'`; None when all are known."""
    named = (
        ("stopping", ask.stopping, STOPPING_RULES),
        ("voting", ask.voting, VOTING_RULES),
        ("schedule", ask.schedule, SCHEDULES),
        ("equivalence", ask.equivalence, EQUIVALENCES),
        ("weighing", ask.weighing, WEIGHINGS),
        ("confidence", ask.confidence, CONFIDENCES),
    )
    unknown = (f"{kind} {name!r}" for kind, name, table in named if name not in table)
    return next(unknown, None if is_usable(ask.answer_schema) else "answer_schema")


def params_of(ask: Ask) -> Params:
    """What the rules that an ask names read, all of them in one, and what holds whatever they are; of those that no table has
    nothing is known."""
    named = (
        STOPPING_RULES.get(ask.stopping),
        SCHEDULES.get(ask.schedule),
        VOTING_RULES.get(ask.voting),
        WEIGHINGS.get(ask.weighing),
    )
    declared = {name: param for rule in named if rule for name, param in rule.params.items()}
    always = {**bound.PARAMS, **path_watch.PARAMS}
    return {**declared, **{name: param for name, param in always.items() if name not in declared}}


def stop(ballots: Sequence[Ballot], ask: Ask) -> Stop | None:
    """Where sampling ends, with the fewest ballots in launch order that end it; None when these do not."""
    votes = partial(_votes, ask=ask, same_as=_same_as(ballots))
    return shortest_stop(_answers(ballots), ask, votes, _weights(ballots, ask))


def deficit(ballots: Sequence[Ballot], ask: Ask) -> int:
    """How many samples it takes at least beyond `ballots`; 0 when sampling has ended or no more are allowed."""
    votes = _votes(_answers(ballots), ask=ask, same_as=_same_as(ballots))
    needed, _ = needed_of_all(votes, ask, _weights(ballots, ask))
    return max(0, min(needed, ask.max_samples - len(ballots)))


def is_out_of_budget(ballots: Sequence[Ballot], ask: Ask) -> bool:
    """True when it takes more samples beyond `ballots`, which are all that were launched, and none can be paid for."""
    return num_affordable(ballots, ask) == 0 and deficit(ballots, ask) > 0


def launch(ballots: Sequence[Ballot], launched: int, ask: Ask) -> int:
    """How many samples the ask's schedule launches now, `ballots` of `launched` being in; 0 if it waits or none is needed.

    And never more than can be paid for: what is under way may cost all that it may.
    """
    if SCHEDULES[ask.schedule].is_patient and launched > len(ballots):
        return 0
    first = in_order(ballots)
    loads = [each.load for each in ballots if each.load is not None][-_RECENT:]
    standing = Standing(
        needed=deficit(first, ask),
        in_order=len(first),
        launched=launched,
        reported=len(ballots),
        most=ask.max_samples,
        load=sum(loads) / len(loads) if loads else None,
    )
    most = num_affordable(ballots, ask, num_open=launched - len(ballots))
    return min(num_to_launch(standing, ask), most) if standing.needed else 0


def in_order(ballots: Sequence[Ballot]) -> Sequence[Ballot]:
    """The ballots of samples 0..k, all of which have reported. `ballots` are in launch order, maybe with gaps."""
    for position, ballot in enumerate(ballots):
        if ballot.sample_index != position:
            return ballots[:position]
    return ballots


def count(ballots: Sequence[Ballot], ask: Ask, *, reason: StopReason) -> Counted:
    """The vote of `ballots`, in launch order. Where a satisfied rule says that only the last decide, the others weigh 0."""
    num_deciding = STOPPING_RULES[ask.stopping].num_deciding
    first = len(ballots) - num_deciding(ask) if num_deciding and reason is StopReason.CONFIDENT else 0
    weighed = [replace(each, weight=weight(each, ask) if at >= first else 0.0) for at, each in enumerate(ballots)]
    if ask.answer_schema:
        return _count_fields(weighed, ask)
    cast = [declining.stand_in(each) for each in weighed]
    (labels,) = _votes(_answers(cast), ask=ask, same_as=_same_as(cast))
    voted = VOTING_RULES[ask.voting].decide(cast, labels, ask)
    result, is_declined = declining.without_declines(voted)
    counted = tuple(replace(each, tally_row=row) for each, row in zip(weighed, result.rows, strict=True))
    if result.outcome is Outcome.NO_ANSWER:
        return Counted(result, 0.0, counted, is_declined=is_declined)
    sure = CONFIDENCES[ask.confidence](voted, cast, ask)
    return Counted(result, min(max(calibrated(sure, ask.calibration), 0.0), 1.0), counted)


def uncounted(ballots: Sequence[Ballot]) -> Counted:
    """The vote that comes to no answer: nobody here knows the rules by which its ballots would count."""
    return Counted(VoteResult(Outcome.NO_ANSWER, None, 0.0, 0.0, 0.0, (), (None,) * len(ballots)), 0.0, tuple(ballots))


def _count_fields(weighed: Sequence[Ballot], ask: Ask) -> Counted:
    """The vote on structured answers; as sure as its least sure field. It is declined where more paths decline than answer."""
    result, fields = structured.decided(weighed, ask)
    is_declined = declining.leads(weighed)
    if is_declined:
        result = dataclasses.replace(result, outcome=Outcome.NO_ANSWER, answer=None)
    counted = tuple(replace(each, tally_row=row) for each, row in zip(weighed, result.rows, strict=True))
    sure = 0.0 if result.outcome is Outcome.NO_ANSWER else min(each.confidence for each in fields)
    return Counted(result, sure, counted, fields, is_declined)


def judged_ballots(ballots: Sequence[Ballot], ask: Ask, same: judged.Same) -> tuple[Sequence[Ballot], bool]:
    """The ballots with what a judge says of their formulas, as far as it is known; and whether all of it is.

    `ballots` are in launch order. What was said before stays; of an equivalence without a judge there is nothing to be said.
    """
    if ask.equivalence not in judged.JUDGED or ask.answer_schema:
        return ballots, True
    answers = [ballot.answer or "" for ballot in ballots]
    found, is_all = judged.represented(answers, rule_of(ask)(answers), _same_as(ballots), same)
    return [
        each if each.same_as == place else replace(each, same_as=place)
        for each, place in zip(ballots, found, strict=True)
    ], is_all


def _votes(answers: Sequence[str], *, ask: Ask, same_as: Sequence[int | None]) -> Sequence[Labels]:
    """The labels of the answers, of each vote that is taken on them: one, or one for each field of a structured answer."""
    said = ["" if answer == declining.LABEL else answer for answer in answers]
    if ask.answer_schema:
        votes: Sequence[Labels] = tuple(labels_by_field(said, ask).values())
    else:
        votes = (_labels(said, ask, same_as) if said else (),)
    return tuple(declining.labelled(answers, labels) for labels in votes)


def _labels(answers: Sequence[str], ask: Ask, same_as: Sequence[int | None]) -> Labels:
    """The cluster of each answer; those that a judge found to be the same are one."""
    labels = _clusters(rule_of(ask), tuple(answers))
    return judged.joined(labels, same_as) if ask.equivalence in judged.JUDGED else labels


@lru_cache(maxsize=64)
def _clusters(equivalence: Equivalence, answers: tuple[str, ...]) -> Labels:
    """What an equivalence makes of answers; the same ones are asked for whether they end a step, what is needed and who has won."""
    return tuple(equivalence(answers))


def _same_as(ballots: Sequence[Ballot]) -> list[int | None]:
    return [ballot.same_as for ballot in ballots]


def _weights(ballots: Sequence[Ballot], ask: Ask) -> list[float] | None:
    """What the ballots weigh; None where all weigh 1."""
    return None if ask.weighing == "alike" else [weight(ballot, ask) for ballot in ballots]


def _answers(ballots: Sequence[Ballot]) -> list[str]:
    return [declining.stand_in(ballot).answer or "" for ballot in ballots]
