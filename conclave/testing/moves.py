"""What befalls the services in a simulated schedule. The table of all moves, with their weights, is at the foot."""

import asyncio

from conclave.runtime.record import Output
from conclave.testing.network import LATENCY_S, Fate, Network, Plan, Request
from conclave.testing.settling import first_needed
from conclave.testing.stage import TROUBLE_S, Stage
from schemas import flow
from schemas.codec import versioned_type
from schemas.flow import Topic

_OF_KAFKA = (Request.OPEN, Request.PRODUCE, Request.OFFSETS, Request.COMMIT, Request.COMMITTED, Request.HEARTBEAT)
_OF_KAFKA_MORE = (*_OF_KAFKA, Request.JOIN, Request.METADATA, Request.COMMIT, Request.COMMIT, Request.OFFSETS)
_LOSSES = (Fate.LOST_REQUEST, Fate.LOST_REPLY)
_RETAINED_MS = 500  # of what is done: less than any request takes
_CUTS = (Fate.KILLED_BEFORE, Fate.KILLED_AFTER)


async def noise(stage: Stage) -> None:
    """Broadcast topics hold what nobody can read, and what compaction leaves of a record."""
    await asyncio.sleep(TROUBLE_S * stage.oddities.random())
    _broadcast_noise(stage, Topic.CONTROL)
    for topic in (Topic.POLICIES, Topic.EXPERIMENTS):
        await asyncio.sleep(TROUBLE_S * stage.noises.random())
        _broadcast_noise(stage, topic)


def _broadcast_noise(stage: Stage, topic: Topic) -> None:
    for number, value in enumerate((None, b"noise")):
        kind = versioned_type(flow.topic_row(topic).events[0])
        headers = (("ce_type", kind.encode()), ("ce_id", f"noise{number}".encode()))
        stage.cluster.publish([Output(topic.value, b"k", value, headers)])


async def locked_out(stage: Stage) -> None:
    """A process that starts does not get into its group for longer than it tries."""
    service = stage.oddities.choice(stage.services)
    deaf_to = stage.cluster.network.deaf_to
    name = next((each.endpoint.name for each in stage.processes.of(service)), "")
    stage.note(f"{name} is locked out")
    deaf_to.add((name, Request.JOIN))
    await asyncio.sleep(10.5 + stage.oddities.random())
    deaf_to.discard((name, Request.JOIN))


async def late_letters(stage: Stage) -> None:
    """The recorder's way to publish a dead letter is lost once."""
    stage.cluster.network.plans.append(Plan(Fate.LOST_REQUEST, Request.METADATA, "recorder"))


async def retention(stage: Stage) -> None:
    """The broker deletes what is old and done, for ever: broken off at the end of the schedule.

    Requests it keeps, as every broker does for longer than a producer may repeat one.
    """
    stage.note("the broker deletes what is old")
    while True:
        await asyncio.sleep(stage.retentions.random())
        for tp, partition in stage.cluster.partitions.items():
            if tp.topic != Topic.REQUESTS:
                below = first_needed(stage.cluster, stage.database, tp)
                partition.delete(before_ms=stage.cluster.now_ms - _RETAINED_MS, below=below)


async def kill(stage: Stage) -> None:
    """A process ends at once, and starts again."""
    process = stage.any_process()
    if process is not None:
        stage.note(f"kill {process.endpoint.name}")
        stage.processes.kill(process)
        await stage.restart(process.service)


async def stop(stage: Stage) -> None:
    """A process drains, and starts again."""
    process = stage.any_process()
    if process is not None and not process.is_frozen:
        stage.note(f"stop {process.endpoint.name}")
        stage.processes.stop(process)
        await stage.until(lambda: process.endpoint.is_cut, 30.0)
        await stage.restart(process.service)


async def add(stage: Stage) -> None:
    """A service gets one more process."""
    service = stage.rng.choice(stage.services)
    stage.note(f"add {stage.processes.start(service).endpoint.name}")


async def freeze(stage: Stage) -> None:
    """A process stands still, for less than its session or for longer, and goes on."""
    process = stage.any_process()
    if process is not None and not process.is_frozen:
        duration_s = stage.rng.choice((0.2, 0.6, 1.5, 2.5)) * (0.5 + stage.rng.random())
        stage.note(f"freeze {process.endpoint.name} for {duration_s:.3f} s")
        stage.processes.freeze(process)
        await asyncio.sleep(duration_s)
        if not process.endpoint.is_cut:
            stage.processes.thaw(process)


async def relieve(stage: Stage) -> None:
    """A process stands still past its session, another does its work meanwhile and ends, and the first goes on."""
    process = stage.any_process()
    if process is None or process.is_frozen:
        return
    stage.note(f"relieve {process.endpoint.name}")
    stage.processes.freeze(process)
    relief = stage.processes.start(process.service)
    await asyncio.sleep(1.2 + stage.rng.random())
    if not process.endpoint.is_cut:
        stage.processes.thaw(process)
    await asyncio.sleep(0.5 * stage.rng.random())
    stage.processes.kill(relief)


async def rebalance(stage: Stage) -> None:
    """A group deals its partitions out anew."""
    group = stage.rng.choice(stage.services)
    stage.note(f"rebalance {group}")
    stage.cluster.group(group).rebalance()


async def put_out(stage: Stage) -> None:
    """A member loses its place though it lives."""
    group = stage.cluster.group(stage.rng.choice(stage.services))
    if group.members:
        member_id = stage.rng.choice(sorted(group.members))
        stage.note(f"put out {member_id}")
        group.remove(member_id)


async def shut_out(stage: Stage) -> None:
    """A member loses its place though it lives, and cannot come back for a while."""
    process = stage.any_process()
    if process is None:
        return
    duration_s = 0.3 + 1.5 * stage.rng.random()
    stage.note(f"shut {process.endpoint.name} out for {duration_s:.3f} s")
    relief = stage.processes.start(process.service) if stage.rng.random() < 0.5 else None
    group = stage.cluster.group(process.service)
    stage.cluster.network.deaf_to.add((process.endpoint.name, Request.JOIN))
    group.remove(group.last_id_of.get(process.endpoint.name, ""))
    await asyncio.sleep(duration_s)
    stage.cluster.network.deaf_to.discard((process.endpoint.name, Request.JOIN))
    if relief is not None:
        await asyncio.sleep(0.3 * stage.rng.random())
        stage.processes.kill(relief)


async def slow(stage: Stage) -> None:
    """The way to the broker gets slow for a while."""
    network = stage.cluster.network
    network.latency_s = 0.3
    stage.note("the way to the broker is slow")
    await asyncio.sleep(2.0 * stage.rng.random())
    network.latency_s = LATENCY_S


async def lose(stage: Stage) -> None:
    """A request or its reply is lost."""
    _plan(stage, stage.rng.choice(_LOSSES))


async def cut(stage: Stage) -> None:
    """A process dies with a request under way."""
    _plan(stage, stage.rng.choice(_CUTS))


async def refuse(stage: Stage) -> None:
    """The broker refuses a batch."""
    stage.cluster.network.plans.append(Plan(Fate.REFUSED, Request.PRODUCE))


async def broker_away(stage: Stage) -> None:
    """The broker does not answer for a while."""
    await _away(stage, stage.cluster.network, "the broker")


async def database_away(stage: Stage) -> None:
    """The database does not answer for a while."""
    await _away(stage, stage.database.network, "the database")


async def skew(stage: Stage) -> None:
    """A process's clock goes wrong."""
    process = stage.any_process()
    if process is not None:
        process.skew_ms = stage.rng.choice((-5000, -500, 500, 5000))
        stage.note(f"{process.endpoint.name}'s clock is off by {process.skew_ms} ms")


def _plan(stage: Stage, fate: Fate) -> None:
    if stage.calls_tools and stage.calls.random() < 0.4:
        network, request = stage.calls.choice(
            ((stage.world.network, Request.CALL), (stage.database.network, Request.ENTER))
        )
        network.plans.append(Plan(fate, request))
    elif stage.rng.random() < 0.15:
        stage.database.network.plans.append(Plan(fate, stage.rng.choice((Request.CLAIM, Request.WRITE))))
    else:
        stage.cluster.network.plans.append(Plan(fate, stage.rng.choice(_OF_KAFKA_MORE)))


async def _away(stage: Stage, network: Network, name: str) -> None:
    duration_s = stage.rng.choice((0.3, 1.0, 2.0)) * (0.5 + stage.rng.random())
    stage.note(f"{name} is away for {duration_s:.3f} s")
    network.is_away = True
    await asyncio.sleep(duration_s)
    network.is_away = False


ODDITIES = (noise, locked_out, late_letters)  # each in a few schedules

MOVES = (
    (kill, 3),
    (stop, 2),
    (add, 1),
    (freeze, 3),
    (relieve, 1),
    (rebalance, 2),
    (put_out, 1),
    (shut_out, 1),
    (slow, 1),
    (lose, 4),
    (cut, 4),
    (refuse, 2),
    (broker_away, 1),
    (database_away, 1),
    (skew, 1),
)
