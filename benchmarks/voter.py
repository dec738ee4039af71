"""How many ballots a second the voter takes in on one core, whatever it is that they are votes for.

    python -m benchmarks.voter

Paths of many steps, shuffled, are joined as the service joins them: each with what its group has read before, carries folded. All
calls are made once to know them, and then again for the clock: CPU time of this process. Decoding and encoding of events is not
in it, nor is Kafka (benchmarks/voter_kafka.py). `in_domain` is the vote alone: each ballot as it comes in, asked whether its step
ends, and how many more to launch.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from benchmarks.measuring import record
from conclave.domain import counting, planning
from conclave.domain.joining import Decision
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from conclave.testing import events as made
from schemas.events import Event, SampleRequested, StepDecided
from schemas.ids import derived_request_id
from schemas.values import Ask, Ballot, StopReason
from services.voter.joiner import Voter
from services.voter.settings import VoterSettings

_NUM_STEPS = 1_000
_SEED = 15


def main() -> None:
    """Measures, prints and records."""
    rules = {rule: _ballots_per_s(Ask(form="any", stopping=rule, max_samples=16)) for rule in STOPPING_RULES}
    in_domain = {rule: _domain_ballots_per_s(Ask(form="any", stopping=rule, max_samples=16)) for rule in STOPPING_RULES}
    schedules = {each: _ballots_per_s(Ask(form="any", schedule=each, max_samples=16)) for each in SCHEDULES}
    result: dict[str, object] = {
        "steps": _NUM_STEPS,
        "ballots_per_s_by_rule": rules,
        "ballots_per_s_by_schedule": schedules,
        "in_domain": in_domain,
    }
    for name, rows in result.items():
        print(name, rows)
    print(record("voter", result))


def _ballots_per_s(ask: Ask) -> int:
    voter, rng = Voter(VoterSettings()), random.Random(_SEED)
    open_events: dict[str, list[Event]] = defaultdict(list)
    owed: list[SampleRequested] = []
    for number in range(_NUM_STEPS):
        request_id = derived_request_id(made.NOW_MS, f"{number}")
        owed += planning.first_wave(made.context(ask, request_id=request_id))
    calls: list[Sequence[Event]] = []
    outcomes: Counter[str] = Counter()
    while owed:
        at = rng.randrange(len(owed))
        owed[at], owed[-1] = owed[-1], owed[at]
        sample = owed.pop()
        answer = str(rng.choices((17, 18, 21), (6, 3, 1))[0])
        path = made.decoded(sample.context, sample.sample_index, sample.launched, answer)
        group = open_events[voter.key(path)]
        group.append(path)
        calls.append(tuple(group))
        decision = voter.join(group, made.NOW_MS)
        if isinstance(decision, Decision):
            group[:] = [decision.carry] if decision.carry is not None else []
            owed += [output for output in decision.outputs if isinstance(output, SampleRequested)]
            outcomes.update(output.stop_reason for output in decision.outputs if isinstance(output, StepDecided))
    assert outcomes.total() == _NUM_STEPS, outcomes
    started = time.process_time()
    for events in calls:
        voter.join(events, made.NOW_MS)
    return round(len(calls) / (time.process_time() - started))


def _domain_ballots_per_s(ask: Ask) -> int:
    rng = random.Random(_SEED)
    steps = [
        [
            Ballot(sample_index=index, answer=str(rng.choices((17, 18, 21), (6, 3, 1))[0]))
            for index in range(ask.max_samples)
        ]
        for _ in range(_NUM_STEPS)
    ]
    num_ballots, started = 0, time.process_time()
    for ballots in steps:
        launched = counting.launch((), 0, ask)
        for reported in range(1, ask.max_samples + 1):
            num_ballots += 1
            cast = ballots[:reported]
            if reported < launched:
                continue
            stop = counting.stop(cast, ask)
            more = 0 if stop is not None else counting.launch(cast, launched, ask)
            if not more:
                counting.count(cast[: stop.length] if stop else cast, ask, reason=StopReason.CONFIDENT)
                break
            launched += more
    return round(num_ballots / (time.process_time() - started))


if __name__ == "__main__":
    main()
