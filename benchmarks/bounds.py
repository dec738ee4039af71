"""`python -m benchmarks.bounds`: does a bound on wrong answers hold, and is it of use, on streams that drift and are judged late?

A stream is a sequence of votes, each with the share of the winner and whether the winner is wrong: the clearer the vote, the more
often it is right, and how much so changes over the stream, up or down. Who asked says so later, or, every other time, never. After
every `_LOOK` votes the quorum is looked for anew (`conclave.domain.vote_learning.abstaining`) from what was judged of the latest
`_WINDOW` votes, and serves until the next look; nothing is served before anything is known. Of a stream it is asked whether of all
that was served at most `_AT_MOST` was wrong, at its end and at every look, and which share was served of what the best quorum of
that moment would have served, had it been known.
"""

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import click

from benchmarks.measuring import record
from conclave.domain.vote_learning.abstaining import lowest_quorum

_AT_MOST, _RISK = 0.11, 0.05
_LOOK, _WINDOW, _NUM_VOTES = 250, 6000, 10_000
_FIRST = 1500  # votes before which a share of what was served says little
_AGREEMENTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0)
_JUDGED = 0.5
_AIM_HELD, _AIM_SERVED = 0.95, 0.8


@dataclass(frozen=True, slots=True)
class Stream:
    """How a stream's votes change: `drift` is what is added to the chance of being right from its beginning to its end."""

    name: str
    drift: float
    delay: int  # votes until the last who says anything has said it


STREAMS = (
    Stream("steady, told at once", 0.0, 0),
    Stream("steady, told late", 0.0, 1000),
    Stream("getting better, told late", 0.04, 1000),
    Stream("getting worse, told late", -0.04, 1000),
)


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a stream: wrong among served at its end and at its worst look, and served among what could have been."""

    wrong: float
    most_wrong: float
    of_oracle: float


def play(stream: Stream, seed: int) -> Played:
    """One run of a stream."""
    rng = random.Random(seed)
    votes: list[tuple[float, bool, int | None]] = []  # agreement, is wrong, told after so many votes
    quorum: float | None = None
    served = wrong = oracle = since = 0
    most_wrong = 0.0
    for number in range(_NUM_VOTES):
        if number and number % _LOOK == 0:
            quorum = _looked(votes, number)
            if number >= _FIRST and served > 100:
                most_wrong = max(most_wrong, wrong / served)
        agreement = rng.choice(_AGREEMENTS)
        is_wrong = rng.random() >= right(stream, number)(agreement)
        told = number + rng.randrange(stream.delay + 1) if rng.random() < _JUDGED else None
        votes.append((agreement, is_wrong, told))
        if quorum is not None and agreement >= quorum:
            served, wrong = served + 1, wrong + is_wrong
            since += number >= _FIRST
        if number >= _FIRST:
            oracle += agreement >= best_quorum(stream, number)
    return Played(wrong / max(1, served), most_wrong, since / max(1, oracle))


def right(stream: Stream, number: int) -> Callable[[float], float]:
    """How often a vote is right, by its agreement, at that place of the stream."""
    shift = stream.drift * (number / _NUM_VOTES - 0.5)
    return lambda agreement: min(1.0, max(0.0, agreement + shift))


def best_quorum(stream: Stream, number: int) -> float:
    """The lowest quorum whose answers are wrong at most so often at that place; above 1 where there is none."""
    chance = right(stream, number)
    for quorum in sorted(set(_AGREEMENTS)):
        answered = [each for each in _AGREEMENTS if each >= quorum]
        if statistics.fmean(1.0 - chance(each) for each in answered) <= _AT_MOST:
            return quorum
    return 2.0


def _looked(votes: list[tuple[float, bool, int | None]], number: int) -> float | None:
    latest = votes[max(0, number - _WINDOW) : number]
    judged = [(agreement, is_wrong) for agreement, is_wrong, told in latest if told is not None and told < number]
    return lowest_quorum(judged, at_most=_AT_MOST, risk=_RISK).quorum


@click.command()
@click.option("--runs", default=100, show_default=True, help="Of each stream.")
def main(runs: int) -> None:
    """Plays the streams, tells what came of them, and exits with 1 where a bound does not hold or is of no use."""
    found = {}
    for stream in STREAMS:
        played = [play(stream, seed) for seed in range(runs)]
        found[stream.name] = {
            "held": sum(each.wrong <= _AT_MOST for each in played) / runs,
            "held_at_every_look": sum(each.most_wrong <= _AT_MOST for each in played) / runs,
            "median_wrong": round(statistics.median(each.wrong for each in played), 4),
            "median_of_oracle": round(statistics.median(each.of_oracle for each in played), 3),
        }
        click.echo(f"{stream.name:<28} {found[stream.name]}")
    settings = {"at_most": _AT_MOST, "risk": _RISK, "votes": _NUM_VOTES, "look": _LOOK, "window": _WINDOW, "runs": runs}
    click.echo(record("bounds", {**settings, "streams": found}))
    is_met = all(each["held"] >= _AIM_HELD and each["median_of_oracle"] >= _AIM_SERVED for each in found.values())
    raise SystemExit(int(not is_met))


if __name__ == "__main__":
    main()
