"""Questions that are nearly alike: twins that ask something else, and paraphrases that ask the same. Made, so one knows which.

A twin differs in one number, unit, name, negation, thing, opposite or place from its sister. A paraphrase says the same in another
of the ways of `PARAPHRASES`; two of them reach beyond what a table of words can know, and say so.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

NAMES = "Tom Ann Ben Kim Ron Bob Ida Jan Max Lea Amy Sam Mary John Rosa Omar Wei Priya Lars Nina".split()
THINGS = (
    "apples pears nuts books pens marbles coins cards cups stamps shells tickets buttons ribbons stones eggs".split()
)
UNITS = "kg g metres kilometres litres hours minutes days dollars euros pounds cm".split()
OPPOSITES = {"buys": "sells", "gets": "loses", "more": "fewer", "before": "after", "adds": "removes", "gives": "takes"}
WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()


@dataclass(frozen=True, slots=True)
class Story:
    """What a question tells: filled into the template of its kind."""

    template: int
    name: str
    other: str
    thing: str
    unit: str
    first: int
    second: int
    is_negated: bool = False
    is_opposite: bool = False

    def __str__(self) -> str:
        return _TEMPLATES[self.template](self)


def _act(story: Story, verb: str) -> str:
    return OPPOSITES[verb] if story.is_opposite else verb


def _not(story: Story, positive: str, negative: str) -> str:
    return negative if story.is_negated else positive


_TEMPLATES: tuple[Callable[[Story], str], ...] = (
    lambda s: (
        f"{s.name} has {s.first} {s.thing} and {_act(s, 'buys')} {s.second}. {s.other} "
        f"{_not(s, 'counts', 'does not count')} them. How many {s.thing} does {s.name} have?"
    ),
    lambda s: (
        f"A rope is {s.first} {s.unit} long. {s.name} {_act(s, 'adds')} {s.second} {s.unit}. It is {_not(s, '', 'not ')}used by "
        f"{s.other}. How many {s.unit} are left?"
    ),
    lambda s: (
        f"{s.name} has {s.first} {s.thing}. {s.other} has {s.second} {_act(s, 'more')} than {s.name} and "
        f"{_not(s, 'keeps', 'never keeps')} them. How many {s.thing} do they have in total?"
    ),
    lambda s: (
        f"{s.name} works {s.first} {s.unit} {_act(s, 'before')} lunch. {s.other} {_not(s, 'works', 'does not work')} {s.second} "
        f"{s.unit}. How many {s.unit} do {s.name} and {s.other} work altogether?"
    ),
    lambda s: (
        f"Each box holds {s.first} {s.thing}. {s.name} {_act(s, 'gives')} {s.other} {s.second} boxes, {_not(s, 'all', 'not all')} "
        f"of them full. How many {s.thing} remain?"
    ),
    lambda s: (
        f"Is it true that {s.name} {_not(s, 'can', 'cannot')} share {s.first} {s.thing} equally among {s.second} children, if "
        f"{s.other} {_act(s, 'gets')} {s.first} {s.unit}?"
    ),
)


def story(rng: random.Random) -> Story:
    """Any story, the same for the same state of `rng`."""
    name, other = rng.sample(NAMES, 2)
    first, second = rng.sample(range(2, 400), 2)
    return Story(rng.randrange(len(_TEMPLATES)), name, other, rng.choice(THINGS), rng.choice(UNITS), first, second)


def _another(rng: random.Random, among: list[str], *than: str) -> str:
    return rng.choice([each for each in among if each not in than])


TWINS: Mapping[str, Callable[[random.Random, Story], Story]] = {
    "number": lambda rng, s: replace(s, first=rng.choice([n for n in range(2, 400) if n != s.first])),
    "unit": lambda rng, s: replace(s, unit=_another(rng, UNITS, s.unit)),
    "name": lambda rng, s: replace(s, name=_another(rng, NAMES, s.name, s.other)),
    "negation": lambda rng, s: replace(s, is_negated=not s.is_negated),
    "thing": lambda rng, s: replace(s, thing=_another(rng, THINGS, s.thing)),
    "opposite": lambda rng, s: replace(s, is_opposite=not s.is_opposite),
    "order of numbers": lambda rng, s: replace(s, first=s.second, second=s.first),
    "order of names": lambda rng, s: replace(s, name=s.other, other=s.name),
}


def near_twins(rng: random.Random, number: int) -> Iterator[tuple[str, str, str]]:
    """So many pairs of questions that differ in one thing, with its kind; in small letters now and then."""
    kinds = list(TWINS)
    made = 0
    while made < number:
        one = story(rng)
        kind = kinds[made % len(kinds)]
        texts = str(one), str(TWINS[kind](rng, one))
        if texts[0] == texts[1]:
            continue  # this template does not tell of it
        if rng.random() < 0.2:
            texts = texts[0].lower(), texts[1].lower()
        yield kind, *texts
        made += 1


def _in_words(rng: random.Random, text: str) -> str:
    words = [WORDS[int(each)] if each.isdigit() and int(each) < len(WORDS) else each for each in text.split(" ")]
    return " ".join(words)


def _swapped(*pairs: tuple[str, str]) -> Callable[[random.Random, str], str]:
    def say(rng: random.Random, text: str) -> str:
        for before, after in pairs:
            text = text.replace(before, after)
        return text

    return say


def _politely(rng: random.Random, text: str) -> str:
    before = rng.choice(("Please tell me: ", "Hello! ", "Could you tell me: ", "Hi, ", "I have a question: ", ""))
    return before + text + rng.choice((" Thanks!", " Thank you.", "", " Please."))


def _spaced(rng: random.Random, text: str) -> str:
    return "  ".join(text.split(" ", 3)).replace("'", "’").rstrip("?") + rng.choice(("", "?", " ?", "??", "."))


def _reordered(rng: random.Random, text: str) -> str:
    """The question first, what it is about behind it: beyond what a comparison in order can tell."""
    *told, asked = text.split(". ")
    return f"{asked} {'. '.join(told)}." if told else text


def _asked_for_the_number(rng: random.Random, text: str) -> str:
    told, how_many, asked = text.rpartition("How many")
    if not how_many or " do " in asked or " are " in asked:
        return text.replace("How many", "Find how many")
    return f"{told}What is the number of{asked.replace(' does ', ' that ').replace(' have?', ' has?')}"


PARAPHRASES: Mapping[str, Callable[[random.Random, str], str]] = {
    "as it is": lambda rng, text: text,
    "spacing and marks": _spaced,
    "politeness": _politely,
    "numbers in words": _in_words,
    "contractions": _swapped(("does not ", "doesn't "), ("cannot ", "can't "), ("is not ", "isn't ")),
    "verbs": _swapped((" buys ", " purchases "), (" gets ", " receives "), (" has ", " owns "), (" have", " own")),
    "way to ask": _asked_for_the_number,
    "sum": _swapped(("in total", "altogether"), ("altogether", "in total"), ("remain?", "are left?")),
    "units": _swapped((" kg", " kilograms"), ("kilometres", "km"), ("metres", "meters"), ("hours", "hrs")),
    "beyond: order of sentences": _reordered,
    "beyond: other verbs": _swapped((" counts ", " tallies "), (" holds ", " contains "), (" works ", " labours ")),
}  # fmt: skip


def paraphrases(rng: random.Random, number: int) -> Iterator[tuple[str, str, str]]:
    """So many pairs of questions that ask the same, with the way in which the second is said."""
    kinds = list(PARAPHRASES)
    made = 0
    while made < number:
        one = story(rng)
        # Small numbers often, so that some can be said in words.
        one = replace(one, first=rng.randint(2, 15), second=rng.randint(2, 15)) if rng.random() < 0.5 else one
        one = replace(one, is_negated=rng.random() < 0.4, is_opposite=rng.random() < 0.4)
        if one.first == one.second:
            continue
        kind = kinds[made % len(kinds)]
        said = PARAPHRASES[kind](rng, str(one))
        if said == str(one) and kind != "as it is":
            continue
        yield kind, str(one), said
        made += 1
