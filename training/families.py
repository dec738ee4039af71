"""The stories that problems are told in: names, things and phrasings, as tables."""

from dataclasses import dataclass

NAMES = (
    "Tom",
    "Ann",
    "Bob",
    "Eva",
    "Max",
    "Lea",
    "Sam",
    "Mia",
    "Ben",
    "Zoe",
    "Jan",
    "Ida",
    "Leo",
    "Amy",
    "Kim",
    "Ron",
)
THINGS = ("apples", "books", "coins", "cards", "pens", "shells", "stamps", "balls", "cups", "nuts", "beads", "keys")
GOODS = (("pen", "pens"), ("cup", "cups"), ("book", "books"), ("ball", "balls"), ("card", "cards"), ("lamp", "lamps"))

# A move: operator and the phrasings of its sentence.
Moves = tuple[tuple[str, tuple[str, ...]], ...]
_QUANTITY: Moves = (
    ("+", ("{a} buys {n} more.", "{a} finds {n} more.", "{b} gives {a} {n} more.", "{a} wins {n} more.")),
    ("-", ("{a} gives {n} to {b}.", "{a} loses {n}.", "{a} sells {n}.", "{b} takes {n} from {a}.")),
    (
        "*",
        (
            "Then {a} gets {n} times as many.",
            "The number grows to {n} times as many.",
            "{a} makes it {n} times as many.",
        ),
    ),
    (
        "/",
        (
            "{a} puts them into {n} equal bags and keeps one bag.",
            "{a} shares them equally among {n} friends and keeps one part.",
            "{a} splits them into {n} equal parts and keeps one.",
        ),
    ),
)
MONEY: Moves = (
    ("+", ("{a} earns {n} dollars.", "{a} gets {n} dollars from {b}.", "{b} pays {a} {n} dollars.")),
    ("-", ("{a} spends {n} dollars.", "{a} pays {n} dollars for lunch.", "{a} lends {b} {n} dollars.")),
    (
        "*",
        (
            "The money grows to {n} times as much.",
            "{a} ends up with {n} times as much.",
            "It becomes {n} times as much.",
        ),
    ),
    (
        "/",
        (
            "{a} keeps one of {n} equal shares.",
            "{a} divides the money by {n} and keeps one part.",
            "Only one part in {n} is left.",
        ),
    ),
)
_AGES: Moves = (
    ("+", ("{b} is {n} years older than that.", "{n} years pass.", "Add {n} years to that.")),
    ("-", ("{b} is {n} years younger than that.", "Go back {n} years.", "Take {n} years off.")),
    (
        "*",
        ("{b} is {n} times as old as that.", "The house is {n} times as old as that.", "A tree is {n} times that age."),
    ),
)
_COMPARE: Moves = (
    ("+", ("{b} has {n} more than that.", "{b} owns {n} more than that.", "The next one has {n} more.")),
    ("-", ("{b} has {n} fewer than that.", "{b} owns {n} fewer than that.", "The next one has {n} fewer.")),
    ("*", ("{b} has {n} times as many as that.", "{b} owns {n} times that.", "The next one has {n} times as many.")),
)
_UNITS: Moves = (
    ("+", ("Another {n} minutes pass.", "A break takes {n} minutes.", "It goes on for {n} minutes.")),
    ("-", ("It is cut by {n} minutes.", "{n} minutes are saved.", "It ends {n} minutes sooner.")),
    ("*", ("It is done {n} times over.", "It happens {n} times.", "All of it is repeated {n} times.")),
)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of story: how it opens, what may happen in it, what is asked at its end."""

    name: str
    openings: tuple[str, ...]
    moves: Moves
    ending: str


FAMILIES: tuple[Family, ...] = (
    Family(
        "quantities",
        ("{a} has {{start}} {things}.", "There are {{start}} {things} in {a}'s box."),
        _QUANTITY,
        "How many {things} does {a} have now?",
    ),
    Family(
        "money",
        ("{a} has {{start}} dollars.", "{a} starts with {{start}} dollars."),
        MONEY,
        "How many dollars does {a} have now?",
    ),
    Family(
        "comparisons",
        ("{a} has {{start}} {things}.", "{a} owns {{start}} {things}."),
        _COMPARE,
        "How many {things} is that?",
    ),
    Family("ages", ("{a} is {{start}} years old.", "{a} turns {{start}} today."), _AGES, "What age is that?"),
    Family(
        "units",
        ("A film lasts {{start}} minutes.", "A trip takes {{start}} minutes."),
        _UNITS,
        "How many minutes is that?",
    ),
)
