"""The end of a request wakes all who wait for it, and nobody else."""

import asyncio

from conclave.testing import events as made
from schemas.ids import new_request_id
from services.gateway.answers import Answers


async def test_all_who_wait_for_a_request_are_woken_by_its_end() -> None:
    answers = Answers()
    other = new_request_id()
    with (
        answers.expecting(made.REQUEST_ID) as first,
        answers.expecting(made.REQUEST_ID) as second,
        answers.expecting(other) as third,
    ):
        answers.hear(made.answer("36"))
        answers.hear(made.answer("37"))  # read again: the first counts
        assert (await first).request_id == made.REQUEST_ID
        assert await first == await second
        assert not third.done()
        assert set(answers.awaited) == {made.REQUEST_ID, other}
    assert answers.awaited == ()


async def test_one_who_gives_up_waiting_leaves_nothing_behind() -> None:
    answers = Answers()

    async def wait() -> None:
        with answers.expecting(made.REQUEST_ID) as end:
            await end

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    answers.hear(made.answer("36"))
    assert answers.awaited == ()
