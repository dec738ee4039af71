"""When two questions are the same: by their normal form, or by their gist.

The normal form forgives what no reader notices: white space, kinds of quotes, a question mark. The gist also forgives words that
carry nothing and a closed table of words for the same thing. All else must be equal and in the same order: every number by its
value, every sign, unit, name and negation, and every word that is not in the tables. So two questions of one gist differ in
nothing that the tables don't know. Why no vectors: decision 0029.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import msgspec

from conclave.domain.questions import Kind, Token, tokens
from schemas.values import Fingerprint, Policy

_VERSION = 3  # of both forms: what was remembered by others is found no more
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", "−": "-", "–": "-", "—": "-"})
_SILENT = frozenset(",.;:?!\"'")
_BRACKETS = frozenset("()[]{}")
_ENDS = frozenset(".?!:;")
_MAX_OPENER = 6  # words
_SHORT_UNIT = 3  # letters: below, case tells units and variables apart (mW, MW; x, X)


def _table(*rows: str) -> dict[str, str]:
    """The word that stands for each, from rows of words for the same thing, the first of which it is."""
    return {word: row.split()[0] for row in rows for word in row.split()}


def _by_first(phrases: Iterable[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    """Phrases by their first word, the longest first."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted(phrases, key=len, reverse=True):
        found.setdefault(phrase[0], []).append(phrase)
    return found


# Words without which a question asks the same; "do" only where it is no verb of its own: "what does a bank do?".
_SOFT = frozenset("a an the of please kindly then now also just exactly".split())
_AUXILIARY = frozenset("do does did".split())
# What may come before a question, or stand beside it, and says nothing; longest first.
_OPENERS = _by_first(
    tuple(phrase.split())
    for phrase in (
        "please|kindly|hello|hello there|hi|hi there|hey|good morning|good evening|thanks|thank you|thanks in advance|"
        "thank you in advance|so|well|okay|ok|tell me|please tell me|can you tell me|could you tell me|would you tell me|"
        "can you please tell me|could you please tell me|would you please tell me|could you kindly tell me|"
        "can you help me|could you help me|can you help|here is a question|i have a question|question|"
        "i want to know|i need to know|i would like to know|i'd like to know|i wonder|i was wondering|do you know"
    ).split("|")
)
_SAME = _table(
    "buy buys bought purchase purchases purchased",
    "get gets got receive receives received obtain obtains obtained",
    "give gives gave given",
    "sell sells sold",
    "is are was were be been am",
    "has have had own owns owned possess possesses possessed",
    "eat eats ate eaten consume consumes consumed",
    "begin begins began start starts started",
    "big large",
    "small little",
    "child children kid kids",
    "pupil pupils student students",
    "car cars automobile automobiles",
    "total altogether together overall",
    "each every apiece",
    "find finds found",
    "cost costs",
    "make makes made",
    "lose loses lost",
    "win wins won",
    "add adds added",
    "take takes took taken",
    "spend spends spent",
    "pay pays paid",
    "divide divides divided split splits",
    "share shares shared",
    "equally evenly",
    "people persons",
    "work works worked",
    "need needs needed require requires required",
    "hour hours hr hrs",
    "minute minutes min mins",
    "kilometre kilometres kilometer kilometers km",
    "kilogram kilograms kg kgs kilo kilos",
    "dollar dollars",
    "metre metres meter meters",
)
# Of those, what is past: who was the president is another question than who is.
_PAST = frozenset(
    (
        "bought purchased got received obtained gave sold was were had owned possessed ate consumed began started found made lost "
        "won added took spent paid divided shared worked needed required did"
    ).split()
)
_NUMBERS_OF_A_STORY = 2  # with so many, a question tells all that it is about, in whatever tense
# Ways to ask; what is left of them stands for all.
_STANDS_FOR = {
    tuple(phrase.split()): stands
    for stands, phrases in {
        "?many": (
            "what is total number|what total number|what is number|what number|find total number|find number|calculate number|"
            "compute number|work out how many|calculate how many|find out how many|find how many|how many"
        ),
        "left": "left over",
        "total": "in total|in all",
    }.items()
    for phrase in phrases.split("|")
}
_ASKING = _by_first(_STANDS_FOR)
# What is left is what remains, but only where that is asked for: whoever remains has not left.
_LEFT = frozenset("left remaining remain remains".split())
# What is put before a calculation: without other words in it, all ask the same.
_OF_CALCULATION = frozenset("what is how much calculate compute evaluate find".split())
_CONTRACTIONS = {
    "won't": ("will", "not"),
    "can't": ("can", "not"),
    "cannot": ("can", "not"),
    "shan't": ("shall", "not"),
}


def fingerprint(
    question: str,
    policy: Policy,
    *,
    tenant: str = "",
    limits: Sequence[object] = (),
    epoch: str = "",
    has_gist: bool = True,
) -> Fingerprint:
    """What a question is found again by: within a tenant, under a policy as it is and a request's own limits, in an epoch.

    Without `has_gist` by its wording alone, at a hundredth of the time.
    """
    within = (_VERSION, tenant, policy.digest, tuple(limits), epoch)
    by_gist = _digest((*within, "gist", gist(question))) if has_gist else ""
    return Fingerprint(key=_digest((*within, normal_form(question))), gist=by_gist, tenant=tenant)


def normal_form(question: str) -> str:
    """The question without what no reader notices. Case stays: x and X, mW and MW are two things."""
    text = unicodedata.normalize("NFC", question).translate(_QUOTES)
    return " ".join(text.split()).rstrip("?. ") or question


def gist(question: str) -> tuple[str, ...]:
    """What must be equal, in order, for two questions to ask the same."""
    found = tokens(normal_form(question))
    has_operators = any(each.kind is Kind.SIGN and each.text in "+-*/×÷^=<>√%" for each in found)
    has_tense = sum(each.kind is Kind.NUMBER for each in found) < _NUMBERS_OF_A_STORY
    kept = list(_kept(found, has_operators, has_tense))
    asked = list(_asked(kept))
    if has_operators and all(each in _OF_CALCULATION or not each[0].isalpha() for each in asked):
        return tuple(each for each in asked if each not in _OF_CALCULATION)
    return tuple(asked)


def _kept(found: Sequence[Token], has_operators: bool, has_tense: bool) -> Iterator[str]:
    """Numbers by value, signs that say something, and words as they are compared."""
    is_beginning, at, previous = True, 0, Kind.SIGN
    while at < len(found):
        each = found[at]
        if is_beginning and (length := _opener(found, at)):
            at += length
            continue
        if each.kind is Kind.WORD:
            is_unit = previous is Kind.NUMBER
            words = (
                [] if _is_auxiliary(found, at) else list(_words(each.text, is_beginning=is_beginning, is_unit=is_unit))
            )
        elif each.kind is Kind.NUMBER:
            words = [f"#{each.value}" if each.value is not None else f"#{each.text}"]
        else:
            words = (
                [each.text]
                if _says(each.text, is_behind_number=previous is Kind.NUMBER, has_operators=has_operators)
                else []
            )
        yield from words
        if has_tense and each.kind is Kind.WORD and each.text.casefold().removesuffix("n't") in _PAST:
            yield "?past"
        is_silent = each.kind is Kind.SIGN and not words
        is_beginning = is_silent and (is_beginning or each.text in _ENDS)
        at, previous = at + 1, each.kind


def _opener(found: Sequence[Token], at: int) -> int:
    """How many tokens are taken by what says nothing before a question; 0 where it begins."""
    phrases = _OPENERS.get(found[at].text.casefold())
    if phrases is None:
        return 0
    ahead = tuple(each.text.casefold() for each in found[at : at + _MAX_OPENER])
    return next((len(phrase) for phrase in phrases if ahead[: len(phrase)] == phrase), 0)


def _is_auxiliary(found: Sequence[Token], at: int) -> bool:
    """True for a "do" that another word of its sentence follows."""
    following = found[at + 1].kind if at + 1 < len(found) else Kind.SIGN
    return found[at].text.casefold() in _AUXILIARY and following is not Kind.SIGN


def _says(sign: str, *, is_behind_number: bool, has_operators: bool) -> bool:
    """True for a sign that changes what is asked: a factorial, a ratio, brackets in a calculation, and all but punctuation."""
    if sign in _BRACKETS:
        return has_operators
    return sign not in _SILENT or (is_behind_number and sign in "!:")


def _words(written: str, *, is_beginning: bool, is_unit: bool) -> Iterator[str]:
    """A word as it is compared: none for one that carries nothing, several for a contraction."""
    lower = written.casefold()
    if lower in _CONTRACTIONS:
        yield from _CONTRACTIONS[lower]
        return
    if lower.endswith("n't"):
        if (verb := lower.removesuffix("n't")) not in _AUXILIARY:
            yield from _words(verb, is_beginning=False, is_unit=False)
        yield "not"
        return
    if lower in ("what's", "that's", "it's", "there's", "who's", "where's", "how's", "let's"):
        yield from (lower[:-2], "is")
        return
    if lower.endswith("'s"):
        written, lower = written[:-2], lower[:-2]
    if lower in _SOFT and (written != "A" or is_beginning):  # hepatitis A is not just any
        return
    is_symbol = len(written) == 1 or (is_unit and len(written) <= _SHORT_UNIT and not written.islower())
    is_name = written[:1].isupper() and not is_beginning
    if is_symbol or is_name or (written.isupper() and len(written) > 1):
        yield written
    else:
        yield _SAME.get(lower) or _SAME.get(_singular(lower)) or _singular(lower)


def _singular(word: str) -> str:
    """A noun's singular, a verb's stem: sells and sell, boxes and box, parties and party."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def _asked(words: list[str]) -> Iterator[str]:
    """The words with every way to ask as one."""
    at, is_counting = 0, False
    while at < len(words):
        phrases = _ASKING.get(words[at], ())
        phrase = next((each for each in phrases if tuple(words[at : at + len(each)]) == each), (words[at],))
        taken, stands = len(phrase), _STANDS_FOR.get(phrase, words[at])
        if is_counting and stands == "is" and words[at + 1 : at + 2] and words[at + 1] in _LEFT:
            at += 1
            continue
        if is_counting and stands in ("that", "which"):  # "the number of nuts that Ann has"
            at += 1
            continue
        yield "left" if is_counting and stands in _LEFT else stands
        is_counting = is_counting or stands == "?many"
        at += taken


def _digest(parts: object) -> str:
    """32 hexadecimal digits: two of a thousand million forms share one with a probability below 10^-20."""
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()
