"""Recorded samples through the voter as it runs: a broker of its own, voter processes, and a decoder that says what was recorded.

    1. start a broker in a folder of its own, with the pipeline's topics, and so many voters
    2. publish the first wave of each question's step; a decoder in this process answers each sample with its recorded path
    3. the voters launch what their schedule wants, until every step has its verdict
Nothing of a running stack is touched: its decoders would take the voters' samples for work of theirs.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import click

from conclave.domain import planning
from conclave.domain.replay import Recording, play, same
from conclave.local.machine.ports import free_port
from conclave.local.servers.kafka import KafkaBroker
from conclave.local.service import ServiceProcess
from conclave.runtime.attempts import Dependencies
from conclave.runtime.client import Client
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from conclave.runtime.kafka import Kafka
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings
from conclave.runtime.topics import ensure_topics
from conclave.runtime.work import Handles
from schemas import flow
from schemas.events import Event, PathDecoded, PathFailed, SampleRequested, StepDecided
from schemas.flow import Topic
from schemas.ids import new_request_id
from schemas.values import Ask, Ballot, FinishReason, PathFailure, Step, StepContext

_DAY_MS = 86_400_000
_PARTITIONS = 4
_SILENCE_S = 60.0
_READY_LIMIT_S = 60.0
_SESSION_TIMEOUT_MS = 6_000
_LONGEST_PATH_S = 0.2  # the longest takes so long, the others in proportion: so short ones arrive first

Verdicts = Mapping[int, StepDecided]  # by the question's place
OnVerdict = Callable[[int], Awaitable[None]]


async def _nothing(num_verdicts: int) -> None:
    pass


class RecordedPaths:
    """A handler of samples that answers with what was recorded."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[Sequence[Ballot], float]] = {}

    def expect(self, request_id: str, ballots: Sequence[Ballot], s_per_token: float) -> None:
        """The paths of a question under a request id of its own."""
        self._of[request_id] = ballots, s_per_token

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The recorded path."""
        assert isinstance(event, SampleRequested)
        ballots, s_per_token = self._of[event.context.request_id]
        ballot = ballots[event.sample_index]
        await asyncio.sleep(ballot.tokens_out * s_per_token)
        return [_path(event, ballot)]

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The sample's terminal event."""
        assert isinstance(event, SampleRequested)
        failed = PathFailed(
            context=event.context,
            sample_index=event.sample_index,
            launched=event.launched,
            failure=PathFailure.ENGINE,
            message=cause.message,
        )
        return [failed]

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """Nothing: the voters have read what they wrote."""
        return []


class Voters:
    """Voter processes over one broker, which may be killed, and the recorded decoder."""

    def __init__(self, address: str, voters: Sequence[ServiceProcess], paths: RecordedPaths) -> None:
        self.address, self.processes, self._paths = address, list(voters), paths

    async def verdicts(self, recordings: Sequence[Recording], ask: Ask, on_verdict: OnVerdict = _nothing) -> Verdicts:
        """The verdict of every question. `on_verdict` is told how many there are, each time there is one more.

        Raises: click.ClickException for a recording that ends before `ask` does, and when no verdict comes any more.
        """
        if short := [each.id for each in recordings if len(each.ballots) < ask.max_samples]:
            raise click.ClickException(f"recorded fewer than {ask.max_samples} samples of {', '.join(short[:5])}")
        longest = max((ballot.tokens_out for each in recordings for ballot in each.ballots), default=0)
        places: dict[str, int] = {}
        samples: list[SampleRequested] = []
        for place, recording in enumerate(recordings):
            context = _context(ask)
            places[context.request_id] = place
            self._paths.expect(context.request_id, recording.ballots, _LONGEST_PATH_S / max(1, longest))
            samples += planning.first_wave(context)
        found: dict[int, StepDecided] = {}
        async with Client(self.address) as client, client.follow(Topic.STEPS) as events:
            await client.publish_many(samples)
            while len(found) < len(recordings):
                async with asyncio.timeout(_SILENCE_S):
                    _, event = await anext(events)
                if isinstance(event, StepDecided) and event.request_id in places:
                    assert places[event.request_id] not in found, "a step is decided once"
                    found[places[event.request_id]] = event
                    await on_verdict(len(found))
        return found


async def compared(voters: Voters, recordings: Sequence[Recording], ask: Ask) -> dict[str, Any]:
    """What the votes came to, and under `differ` the questions on which that is not what they come to in this process."""
    verdicts = await voters.verdicts(recordings, ask)
    played = [play(each, ask) for each in recordings]
    told = [(verdicts[place].answer, len(verdicts[place].ballots)) for place in range(len(recordings))]
    return {
        "questions": len(recordings),
        "right": sum(
            bool(answer and recording.gold and same(answer, recording.gold, ask))
            for recording, (answer, _) in zip(recordings, told, strict=True)
        ),
        "samples": sum(counted for _, counted in told),
        "tokens": sum(ballot.tokens_out for each in verdicts.values() for ballot in each.ballots),
        "differ": [
            recording.id
            for recording, here, there in zip(recordings, played, told, strict=True)
            if (here.answer, here.num_counted) != there
        ],
    }


@asynccontextmanager
async def running(num_voters: int, jars_dir: Path) -> AsyncIterator[Voters]:
    """A broker and so many voters, ready; all gone afterwards. Raises: LocalStackError, click.ClickException."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conclave-replay-")))
        broker = KafkaBroker(folder / "kafka", jars_dir=jars_dir)
        stack.push_async_callback(broker.stop)
        await broker.start()
        address = str(broker.endpoint)
        await ensure_topics(address, partitions=_PARTITIONS)
        voters = [voter_process(address, folder, number) for number in range(num_voters)]
        for voter in voters:
            stack.push_async_callback(voter.stop)
            await voter.start()
        paths = RecordedPaths()
        settings = RuntimeSettings(bootstrap_servers=address, max_in_flight=4_096)
        decoder = Service("decoder", settings, Handles(paths), Dependencies(), Kafka(address))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(decoder.run(), name="recorded decoder")
        stack.callback(decoder.stop)
        await _until_ready(voters, decoder)
        yield Voters(address, voters, paths)


async def _until_ready(voters: Sequence[ServiceProcess], decoder: Service) -> None:
    try:
        async with asyncio.timeout(_READY_LIMIT_S):
            are_ready = False
            while not are_ready:
                await asyncio.sleep(0.1)
                are_ready = decoder.is_ready and all([await voter.is_ready() for voter in voters])
    except TimeoutError:
        said = voters[0].log_path.read_text(errors="replace")[-1000:] if voters else ""
        raise click.ClickException(f"the voters are not ready after {_READY_LIMIT_S:.0f} s: {said}") from None


def voter_process(address: str, folder: Path, number: int) -> ServiceProcess:
    """A voter on a broker, not started yet; it logs into the folder."""
    port = free_port()
    environment = {
        **os.environ,
        "CONCLAVE_BOOTSTRAP_SERVERS": address,
        "CONCLAVE_SESSION_TIMEOUT_MS": str(_SESSION_TIMEOUT_MS),
        "CONCLAVE_HTTP_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
    }
    return ServiceProcess(
        f"voter-{number}",
        flow.service_row("voter").module,
        port=port,
        environment=environment,
        log_path=folder / f"voter-{number}.log",
        directory=folder,
    )


def _context(ask: Ask) -> StepContext:
    return StepContext(
        request_id=new_request_id(),
        step=Step(index=0, fields={"question": "recorded"}),
        ask=ask,
        prompt_set="recorded",
        policy="recorded",
        deadline_ms=round(time.time() * 1000) + _DAY_MS,
    )


def _path(sample: SampleRequested, ballot: Ballot) -> PathDecoded:
    return PathDecoded(
        context=sample.context,
        sample_index=sample.sample_index,
        launched=sample.launched,
        text="",
        answer=ballot.answer,
        probability=ballot.probability,
        finish_reason=FinishReason.STOP,
        tokens_in=ballot.tokens_in,
        tokens_out=ballot.tokens_out,
        mean_logprob=ballot.mean_logprob,
        min_logprob=None,
        answer_logprob=ballot.answer_logprob,
        lowest_group_logprob=ballot.lowest_group_logprob,
        tail_logprob=ballot.tail_logprob,
        queued_ms=0.0,
        first_token_ms=0.0,
        total_ms=0.0,
        model="recorded",
        engine="recorded",
    )
