"""Tools answer anything, at once; the calculator's answers are exact."""

import asyncio
import random
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave.tools import TOOLS
from conclave.tools.calculator import MAX_CHARS, calculate, calculate_whole
from conclave.tools.toolbox import Toolbox
from schemas.values import Call

_LIMIT_S = 0.25  # of an answer; the longest takes a tenth of it, on a busy machine too
_HOSTILE = [
    "",
    " ",
    "0" * 10_000_000,
    "1+" * 5_000_000,
    "(" * 10_000 + "1" + ")" * 10_000,
    "(" * 499 + "1" + ")" * 499,
    "-" * 999 + "1",
    "2^" * 499 + "1",
    "1/" * 499 + "3",
    "+".join(f"1/{prime}" for prime in range(3, 250, 2)),
    "9**9**9",
    "9^9^9^9^9",
    "(1/9)**-999999999999",
    "2**0.5",
    "0**-1",
    "1/0",
    "1//0",
    "1%0",
    "__import__('os').system('true')",
    "().__class__",
    "1e999",
    "٣+٤",
    "1 2",
    "\0",
    "\ud800",
]


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
@pytest.mark.parametrize("argument", _HOSTILE, ids=range(len(_HOSTILE)))
def test_a_tool_answers_what_is_meant_to_harm_it_within_the_limit(tool, argument: str) -> None:  # type: ignore[no-untyped-def]
    started = time.process_time()
    answer = tool(argument)
    assert time.process_time() - started < _LIMIT_S
    assert len(answer) < 4096


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
@given(argument=st.text(max_size=200) | st.text("0123456789+-*/%^(),. ", max_size=400))
def test_a_tool_answers_anything_in_one_line(tool, argument: str) -> None:  # type: ignore[no-untyped-def]
    answer = tool(argument)
    assert answer
    assert len(answer.splitlines()) == 1


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("17-6", "11"),
        (" 17 - 6 = ", "11"),
        ("347×6", "2082"),
        ("2*(3+4)^2", "98"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2**-2", "0.25"),
        ("--3", "3"),
        ("1,000/8", "125"),
        ("1/3+1/6", "0.5"),
        ("10/3", "10/3"),
        ("-10/4", "-2.5"),
        ("0.1+0.2", "0.3"),
        ("17//5", "3"),
        ("17%5", "2"),
        ("-7%3", "2"),
        ("50*10%", "5"),
        ("10%*50", "5"),
        ("[1+2]*3", "9"),
        ("(-1)**999999999999", "-1"),
        ("0**0", "1"),
        ("1/0", "error: division by zero"),
        ("9**9**9", "error: a number on the way is too large"),
        ("__import__", "error: '_' is no part of an expression"),
        ("2(3)", "error: an operator is missing before ("),
        ("2+", "error: the expression ends where a number is expected"),
        ("2+)", "error: ) stands where a number is expected"),
        ("(2", "error: a bracket is not closed"),
        ("2**(1/2)", "error: the exponent 0.5 is no whole number"),
        ("", "error: the expression is empty"),
        ("(" * 65 + "1", "error: nested more than 64 deep"),
        ("1" * (MAX_CHARS + 1), "error: the expression has 1,001 characters, at most 1,000 are read"),
    ],
)
def test_the_calculator_says_what_an_expression_is_worth_or_what_is_wrong_with_it(expression: str, answer: str) -> None:
    assert calculate(expression) == answer


def test_the_whole_calculator_divides_as_the_shipped_model_was_taught() -> None:
    assert [calculate_whole(each) for each in ("2082/6", "17/5", "3*(17/5)", "7/2*2", "1//2", "5/0")] == [
        "347", "3", "9", "6", "0", "error: division by zero",
    ]  # fmt: skip


_OPERATORS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}


@given(seed=st.integers(0, 2**32), size=st.integers(1, 12))
def test_the_calculator_agrees_with_fractions_on_any_tree_of_sums(seed: int, size: int) -> None:
    text, value = _tree(random.Random(seed), size)
    found = calculate(text)
    if value is None:
        assert found == "error: division by zero"
    else:
        assert Fraction(found) == value


def _tree(rng: random.Random, size: int) -> tuple[str, Fraction | None]:
    if size == 1:
        whole, places = rng.randrange(1000), rng.randrange(100)
        return (
            (f"{whole}.{places:02}", whole + Fraction(places, 100))
            if rng.random() < 0.3
            else (f"{whole}", Fraction(whole))
        )
    left, a = _tree(rng, size // 2)
    right, b = _tree(rng, size - size // 2)
    sign = rng.choice("+-*/")
    text = f"({left}) {sign} ({right})"
    return text, None if a is None or b is None or (sign == "/" and not b) else _OPERATORS[sign](a, b)


async def test_a_toolbox_answers_whatever_its_tools_do_and_waits_for_none_of_them() -> None:
    may_end = threading.Event()

    def hangs(argument: str) -> str:
        may_end.wait(60)
        return "late"

    def fails(argument: str) -> str:
        raise ZeroDivisionError("a tool of someone's own")

    toolbox = Toolbox({**TOOLS, "hangs": hangs, "fails": fails, "shouts": lambda text: text * 10_000}, limit_s=0.05)
    assert await toolbox.answer(Call("calculator", "17-6")) == "11"
    assert await toolbox.answer(Call("fails", "")) == "error: fails failed"
    assert await toolbox.answer(Call("none", "")) == "error: there is no tool none"
    assert len(await toolbox.answer(Call("shouts", "hey"))) == 4096
    hung = await asyncio.gather(*(toolbox.answer(Call("hangs", "")) for _ in range(70)))
    assert set(hung) == {"error: hangs took more than 0.05 s"}
    assert await toolbox.answer(Call("calculator", "1+1")) == "error: calculator took more than 0.05 s", (
        "all threads hang"
    )
    may_end.set()
    async with asyncio.timeout(5):
        while await toolbox.answer(Call("calculator", "1+1")) != "2":
            await asyncio.sleep(0)


async def test_a_call_that_is_cut_leaves_nothing_behind() -> None:
    toolbox = Toolbox()
    tasks = [asyncio.create_task(toolbox.answer(Call("calculator", "1+1"))) for _ in range(300)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends[::2])
    assert set(ends[1::2]) == {"2"}
    async with asyncio.timeout(5):
        while await toolbox.answer(Call("calculator", "1+1")) != "2":
            await asyncio.sleep(0)
