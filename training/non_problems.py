"""Endless texts that are no word problems, of many kinds: what the model learns to decline.

Few of them are worth anything as sentences. What counts is variety: a small model that sees one kind of text declines that kind
and no other, so words, forms and lengths are put together anew each time, with words that nobody has ever used among them. The
kinds that it is tested on (data/problems/non_problems.jsonl) were written by hand, and four in five are none of these.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from string import Formatter

from training.families import GOODS, NAMES, THINGS
from training.problems import Problem
from training.vocabulary import (
    ADJECTIVES,
    ADVERBS,
    CODE_LINES,
    FOREIGN,
    IDENTIFIERS,
    LINKS,
    NOUNS,
    PEOPLE,
    PLACES,
    VERBS,
)

_ONSETS = ("", *"bcdfghjklmnprstvwz", "ch", "st", "tr", "pl")
_RIMES = ("a", "e", "i", "o", "u", "y", "ar", "en", "il", "ou", "ing", "ter", "ck")
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", "!?.,;:-_/()[]{}<>=+*#@%&\"'",
    "абвгдежзийклмнопрстуфхцчшщыьэюя", "αβγδεζηθικλμνξοπρστυφχψω", "אבגדהוזחטיכלמנסעפצקרשת", "가나다라마바사아자차카타파하",
    "あいうえおかきくけこさしすせそ", "天地人日月山水火木金土大小上下", "กขคงจฉชซญดตถทนบปผพฟมยรลวสห", "😀🎉🚀❤👍🌍🐱🍕",
)  # fmt: skip
_QUESTIONS = (
    "What is the {n} of {p}?", "What is a {n}?", "What does the word {n} mean?", "Who was {h}?", "Who {v}s the {n}?",
    "Who was the first {n} of {p}?", "Where is {p}?", "Where do {n}s come from?", "When was the {n} of {p} built?",
    "Why are {n}s {a}?", "Why does the {n} {v} the {n}?", "How do I {v} a {n}?", "How does a {n} work?", "How {a} is a {n}?",
    "How far is {p} from {p}?", "How old is {h}?", "How many {n}s are there in {p}?", "How much does a {n} cost in {p}?",
    "Which {n} is the most {a}?", "Which {n}s live in {p}?", "Is the {n} {a} or {a}?", "Are {n}s more {a} than {n}s?",
    "Can you {v} a {n}?", "Can a {n} {v}?", "Does {h} {v} {n}s?", "Did {h} {v} the {n} {d}?", "Should I {v} my {n} {d}?",
    "Would you {v} a {a} {n}?", "What happened in {p} in {y}?", "In which year did {h} {v} the {n}?", "What colour is the {n}?",
    "What is the difference between a {n} and a {n}?", "What is your favourite {n}?", "Whose {n} is this?", "Really?", "Why?",
)  # fmt: skip
_REQUESTS = (
    "Write a {n} about a {a} {n}.", "Tell me about {p}.", "Tell me a {n} about {h}.", "Explain the {n} of {p} to a {n}.",
    "Describe a {a} {n}.", "List {n}s that {v} {n}s.", "Give me a {a} {n}.", "Please {v} the {n} {d}.", "{V} the {n}.",
    "Help me to {v} my {n}.", "Show me how to {v} a {n}.", "Imagine a {a} {n} in {p}.", "Plan to {v} {p}.", "Name a {a} {n}.",
)  # fmt: skip
_CHAT = (
    "Hello", "Hi", "Hey {h}", "Good morning", "Good evening", "Thanks", "Thank you", "Please", "Sorry", "Yes", "No", "Maybe", "OK",
    "Bye", "I am {a}", "I feel {a} {d}", "My {n} is {a}", "I like {n}s", "I do not {v} {n}s", "You are {a}", "How are you",
    "Are you there", "Let us {v} {d}", "See you {d}", "That is {a}", "What a {a} {n}", "I want a {n}", "Never mind", "Help",
)  # fmt: skip
_STATEMENTS = (
    "The {a} {n} {v}s the {n}.", "{h} {v}s a {n} {d}.", "{p} is {a}.", "In {y} the {n} of {p} had {k} {n}s.",
    "There is a {n} in {p}.", "A {n} is a {a} {n}.", "{h} said that the {n} was {a}.", "We {v} {n}s {d}.",
    "No {n} can {v} a {a} {n}.", "They live in {p}.",
    "The {n} {v}s {d} {l} the {n} is {a}.", "It has {k} {n}s {l} {k} {n}s.", "Every {n} needs a {n}.", "It was {a} {d}.",
)  # fmt: skip
_SUMS = (
    "{k}+{k}", "{k} - {k}", "{k}*{k}=", "{k} / {k} = ?", "What is {k} + {k}?", "What is {k} times {k}?", "Compute {k}*{k}-{k}.",
    "How much is {k} minus {k}?", "x + {k} = {k}", "Solve {k}x - {k} = {k}.", "({k}+{k})*{k}", "Is {k} a prime number?", "{k}",
    "{k}, {k}, {k}, ...", "sqrt({k})", "{k}% of {k}", "Divide {k} by {k}.", "Add {k} and {k}.", "Round {k}.{k}.", "{k} > {k}?",
)  # fmt: skip
# What may be asked of a story, and is no sum.
_OF_A_STORY = (
    "Who is {x}?", "Where does {x} live?", "Why does {x} do that?", "Is {x} happy?", "What colour are the {t}?", "What is the {n}?",
    "Translate this.", "Write this as a {n}.", "What does {x} look like?", "Which {t} are {a}?", "Tell me more.", "Is this {a}?",
    "What happens {d}?", "Who is {a}?", "Does {x} {v} the {t}?", "What should {x} {v}?", "Where are the {t}?", "Is that true?",
    "How do you know?", "What is {x} going to {v}?", "Can {x} {v} {t}?", "Summarise it.", "When was that?", "{x} is {a}.",
)  # fmt: skip
_MAX_CHARS = 900
_THINGS = {*THINGS, *(many for _, many in GOODS)}


def non_problem(problem: Problem, rng: random.Random) -> str:
    """A text that is no word problem, of a kind drawn by its share; `problem` is what near ones are made of. Never blank."""
    text = ""
    while not text.strip():
        kind = rng.choices(tuple(_KINDS), weights=tuple(_KINDS.values()))[0]
        text = _dressed(kind(problem, rng), rng)[:_MAX_CHARS]
    return text


def _sentence(problem: Problem, rng: random.Random) -> str:
    """A question, request, remark or statement."""
    return _filled(rng.choice(rng.choice((_QUESTIONS, _QUESTIONS, _REQUESTS, _CHAT, _STATEMENTS))), rng)


def _several(problem: Problem, rng: random.Random) -> str:
    """A text of several sentences, maybe with a question at its end."""
    said = [_filled(rng.choice(rng.choice((_STATEMENTS, _STATEMENTS, _CHAT))), rng) for _ in range(rng.randint(1, 8))]
    return " ".join([*said, _filled(rng.choice((*_QUESTIONS, *_REQUESTS)), rng)] if rng.random() < 0.7 else said)


def _words(problem: Problem, rng: random.Random) -> str:
    """Words in no order, of one kind or of all."""
    everything = (
        *NOUNS,
        *ADJECTIVES,
        *VERBS,
        *ADVERBS,
        *LINKS,
        *PEOPLE,
        *PLACES,
        "the",
        "a",
        "of",
        "to",
        "in",
        "is",
        "what",
        "how",
    )
    share = rng.choice((0.0, 0.2, 0.5, 1.0))
    number = rng.choice((1, 2, 3, rng.randint(4, 40)))
    words = (_pseudo_word(rng) if rng.random() < share else rng.choice(everything) for _ in range(number))
    return " ".join(words) + rng.choice(("", ".", "?", "!", "?"))


def _characters(problem: Problem, rng: random.Random) -> str:
    """Characters in no order, of one script or of several."""
    letters = "".join(rng.sample(_ALPHABETS, rng.choice((1, 1, 2, 3))))
    words = ("".join(rng.choice(letters) for _ in range(rng.randint(1, 9))) for _ in range(rng.randint(1, 12)))
    return rng.choice((" ", " ", "")).join(words)


def _foreign(problem: Problem, rng: random.Random) -> str:
    """Words of another language."""
    words = FOREIGN[rng.choice(tuple(FOREIGN))].split()
    said = [rng.choice(words) for _ in range(rng.randint(2, 14))]
    said += [rng.choice(PLACES)] if rng.random() < 0.2 else []
    return (" ".join(said) + rng.choice(("?", "?", ".", "!", ""))).capitalize()


def _code(problem: Problem, rng: random.Random) -> str:
    """Lines of code, maybe with a question about them."""
    lines = [_filled(rng.choice(CODE_LINES), rng) for _ in range(rng.randint(1, 7))]
    about = _filled(rng.choice(("", "", "Fix this:", "What does this do?", "{V} this {n}:", "Why is it {a}?")), rng)
    return "\n".join(rng.sample([about, "\n".join(lines)], 2)).strip()


def _sum(problem: Problem, rng: random.Random) -> str:
    """A sum without a story."""
    return _filled(rng.choice(_SUMS), rng)


def _near(problem: Problem, rng: random.Random) -> str:
    """A problem that lacks what makes it one: its question, its story, its numbers, its order; or it asks for no sum."""
    story = " ".join(segment.text for segment in problem.segments)
    sentences = re.split(r"(?<=\.) ", story)
    match rng.randrange(7):
        case 0:
            return story
        case 1:
            return problem.ending
        case 2:
            return rng.choice(sentences)
        case 3:
            return re.sub(r"\d+", lambda _: rng.choice(("some", "a few", "many", "more", "no")), problem.question)
        case 4:
            words = problem.question.split()
            return " ".join(rng.sample(words, len(words)))
        case _:
            told = " ".join(sentences[: rng.randint(1, len(sentences))])
            who = next((name for name in NAMES if name in told), rng.choice(NAMES))
            return f"{told} {_filled(rng.choice(_OF_A_STORY), rng, x=who, t=rng.choice(THINGS))}"


def written(file: Path) -> list[str]:
    """Texts of a file of JSON lines, each under `text`: those in data/problems were written by hand, and nothing learns on them."""
    return [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]


_Kind = Callable[[Problem, random.Random], str]
_KINDS: dict[_Kind, float] = {
    _sentence: 0.27,
    _several: 0.12,
    _words: 0.12,
    _characters: 0.06,
    _foreign: 0.12,
    _code: 0.07,
    _sum: 0.06,
    _near: 0.18,
}


def _dressed(text: str, rng: random.Random) -> str:
    """The text as people write it: in small letters, without its last sign, with a slip, in quotes, after a word or two."""
    if rng.random() < 0.12:
        text = f"{_filled(rng.choice(_CHAT), rng)}{rng.choice((', ', '. ', '! '))}{text}"
    if rng.random() < 0.15:
        text = text.lower()
    elif rng.random() < 0.04:
        text = text.upper()
    if rng.random() < 0.15:
        text = text.rstrip(".?!")
    if rng.random() < 0.10 and len(text) > 3:
        at = rng.randrange(len(text) - 1)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return f'"{text}"' if rng.random() < 0.03 else text


def retelling(problem: Problem, rng: random.Random) -> str:
    """The problem's question in names and things that none of our stories has, now and then in small letters."""
    text = problem.question
    for name in NAMES:
        text = re.sub(rf"\b{name}\b", rng.choice((_unheard_of(rng).capitalize(), rng.choice(PEOPLE))), text)
    for one in dict.fromkeys(each.removesuffix("s") for each in (*THINGS, *(many for _, many in GOODS))):
        text = re.sub(rf"\b{one}(s?)\b", rf"{rng.choice((_unheard_of(rng), rng.choice(NOUNS)))}\1", text)
    return text.lower() if rng.random() < 0.15 else text


def _filled(template: str, rng: random.Random, **given: str) -> str:
    """The template with each of its fields as given, or drawn anew."""
    draws: dict[str, Callable[[], str]] = {
        "n": lambda: _word(NOUNS, rng),
        "a": lambda: _word(ADJECTIVES, rng),
        "v": lambda: _word(VERBS, rng),
        "V": lambda: _word(VERBS, rng).capitalize(),
        "d": lambda: _word(ADVERBS, rng),
        "l": lambda: rng.choice(LINKS),
        "h": lambda: _name(PEOPLE, rng),
        "p": lambda: _name(PLACES, rng),
        "k": lambda: str(rng.randrange(10 ** rng.randint(1, 4))),
        "y": lambda: str(rng.randint(1000, 2100)),
        "i": lambda: rng.choice((rng.choice(IDENTIFIERS), _pseudo_word(rng))),
    }
    said = ""
    for literal, field, _, _ in Formatter().parse(template):
        said += literal + ("" if field is None else given[field] if field in given else draws[field]())
    return said


def _word(words: tuple[str, ...], rng: random.Random) -> str:
    return _pseudo_word(rng) if rng.random() < 0.3 else rng.choice(words)


def _name(names: tuple[str, ...], rng: random.Random) -> str:
    return _pseudo_word(rng).capitalize() if rng.random() < 0.4 else rng.choice((*names, *NAMES))


def _unheard_of(rng: random.Random) -> str:
    """A made-up word that is no name or thing of our stories; one in a thousand would be."""
    while (word := _pseudo_word(rng)).capitalize() in NAMES or {word, f"{word}s"} & _THINGS:
        pass
    return word


def _pseudo_word(rng: random.Random) -> str:
    """A word that nobody has ever used, most likely."""
    return (
        "".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(rng.randint(1, 4)))
        + rng.choice("nsrlt ").strip()
    )
