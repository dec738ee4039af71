"""Cancellations that wait for the log: they outlive the gateway that heard them, whatever is away."""

from conclave.testing.waiting import until
from schemas.events import Event, RequestCancelled
from schemas.ids import asked_at_ms, new_request_id
from services.gateway.cancelling import Cancelling
from tests.gateway_in_memory import MemoryCancellations, World


def cancellations(number: int, *, seconds: float = 600) -> list[RequestCancelled]:
    ids = [str(new_request_id()) for _ in range(number)]
    return [RequestCancelled(request_id=each, until_ms=asked_at_ms(each) + round(1000 * seconds)) for each in ids]


async def test_what_waits_when_its_gateway_stops_is_published_by_the_next_one() -> None:
    world, wanted = World(is_log_away=True), cancellations(3)
    async with world.serving():
        await world.cancelling.publish(wanted)
    world.is_log_away = False
    world.cancelling = Cancelling(world, world.cancellations, pause_s=0.02)
    async with world.serving():
        await until(lambda: len(world.published) == 3, what="the other gateway's cancellations")
        await until(lambda: not world.cancellations.noted, what="none that waits")
    assert world.published == wanted


async def test_a_gateway_that_stops_publishes_what_it_could_not_note_either() -> None:
    world, wanted = World(is_log_away=True, cancellations=MemoryCancellations(is_away=True)), cancellations(2)
    await world.cancelling.publish(wanted)
    world.is_log_away = False
    await world.cancelling.close()
    assert world.published == wanted


async def test_a_gateway_that_stops_notes_what_the_log_does_not_take() -> None:
    world, wanted = World(is_log_away=True, cancellations=MemoryCancellations(is_away=True)), cancellations(2)
    await world.cancelling.publish(wanted)
    world.cancellations.is_away = False
    await world.cancelling.close()
    assert list(world.cancellations.noted.values()) == wanted


async def test_what_ends_by_itself_meanwhile_is_not_published() -> None:
    world, (over, wanted) = World(is_log_away=True), [*cancellations(1, seconds=-1), *cancellations(1)]
    await world.cancelling.publish([over, wanted])
    world.is_log_away = False
    async with world.serving():
        await until(lambda: not world.cancellations.noted, what="none that waits")
    assert world.published == [wanted]


async def test_what_is_noted_while_one_of_them_is_being_published_is_published_too() -> None:
    world, (first, second, third) = World(cancellations=MemoryCancellations(is_away=True)), cancellations(3)

    class Slow:
        """The log, which takes the first while another is heard, and then nothing for a moment."""

        num_calls = 0

        async def publish(self, event: Event, *, event_id: str | None = None, traceparent: str | None = None) -> None:
            self.num_calls += 1
            if self.num_calls == 1:
                world.cancellations.is_away = False
                await cancelling.publish([third], is_log_away=True)  # notes all that waits
            world.published.append(event)

    cancelling = Cancelling(Slow(), world.cancellations)
    await cancelling.publish([first, second], is_log_away=True)  # with Postgres away too
    await cancelling._publish_waiting()
    assert set(map(repr, world.published)) == set(map(repr, (first, second, third)))
