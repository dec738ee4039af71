"""What the worst texts cost whoever reads them: CPU a text for every form, and how long the event loop is held up.

    python -m benchmarks.extraction

Costs are CPU time of the thread that reads, and delays the best of several rounds beside those of an idle loop, so that what
else the machine does falls on neither.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from benchmarks.measuring import record
from conclave import prompts
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.equivalence.cleaning import cleaned
from conclave.domain.equivalence.readings import read
from conclave.engine.protocol import Decoded
from conclave.prompts import Form
from conclave.testing.hostile_texts import hostile_texts
from schemas.values import MAX_SAMPLES, MAX_TEXT_CHARS, FinishReason
from services.decoder.reading import reading_of

_ROUNDS = 5
_TICK_S = 0.001


def main() -> None:
    """Measures, prints and records."""
    forms = {
        form.extractor: f"{each.name}/{form.name}"
        for each in prompts.shipped().values()
        for form in each.forms.values()
    }
    texts = hostile_texts(MAX_TEXT_CHARS)
    costs = {
        f"{form}: {shape}": _cpu_ms(partial(extractor, text, False))
        for extractor, form in forms.items()
        if extractor is not None
        for shape, text in texts.items()
    }
    delays = asyncio.run(_delays(prompts.load("instruct-v1").form("direct")))
    equivalence = {shape: _step_ms(text) for shape, text in hostile_texts(4_096).items()}
    result = {
        "chars": MAX_TEXT_CHARS,
        "extraction_worst_cpu_ms": dict(sorted(costs.items(), key=lambda row: -row[1])[:10]),
        "loop_delay_worst_ms": dict(sorted(delays.items(), key=lambda row: -row[1])[:10]),
        "equivalence_of_256_answers_worst_cpu_ms": dict(sorted(equivalence.items(), key=lambda row: -row[1])[:5]),
    }
    for name, rows in result.items():
        print(name, rows)
    print(record("extraction", result))


def _cpu_ms(run: Callable[[], object]) -> float:
    """The least CPU time of several runs; the first, which builds RE2's tables, does not count."""
    run()
    times = []
    for _ in range(_ROUNDS):
        started = time.thread_time()
        run()
        times.append((time.thread_time() - started) * 1000)
    return round(min(times), 2)


async def _delays(form: Form) -> dict[str, float]:
    """The longest time that the event loop was held up while a text of each shape and of several lengths was read."""
    delays: dict[str, float] = {}
    for num_chars in (4_096, 4_097, MAX_TEXT_CHARS):
        for shape, text in hostile_texts(num_chars).items():
            figures = [await _delay_ms(form, text) for _ in range(_ROUNDS)]
            delays[f"{shape}, {num_chars} characters"] = round(min(figures), 2)
    delays["an idle loop"] = round(min([await _delay_ms(form, "Answer: 1") for _ in range(_ROUNDS)]), 2)
    return delays


async def _delay_ms(form: Form, text: str) -> float:
    decoded = Decoded(
        text=text, finish_reason=FinishReason.STOP, tokens_in=0, tokens_out=0, mean_logprob=None, min_logprob=None,
        queued_ms=0.0, first_token_ms=0.0, total_ms=0.0,
    )  # fmt: skip
    task = asyncio.create_task(reading_of(form, decoded))
    worst, last = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(_TICK_S)
        now = time.perf_counter()
        worst, last = max(worst, now - last - _TICK_S), now
    return worst * 1000


def _step_ms(text: str) -> float:
    """Milliseconds to compare as many different answers as a step may have, none of them seen before."""
    answers = [text[: 4_096 - 4] + str(index) for index in range(MAX_SAMPLES)]
    short = [answer[:250] + str(index) for index, answer in enumerate(answers)]
    worst = 0.0
    for each in (answers, short):
        read.cache_clear()
        cleaned.cache_clear()
        started = time.thread_time()
        EQUIVALENCES["short_answer"](each)
        worst = max(worst, (time.thread_time() - started) * 1000)
    return round(worst, 1)


if __name__ == "__main__":
    main()
