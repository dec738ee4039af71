"""From the line that holds an answer to the answer: without markup, remarks behind it, or what only announces it.

Every text here is a window of a few thousand characters, so ordinary patterns will do; none of them nests a repetition.
"""

import re
from itertools import accumulate, islice, repeat

_MAX_CHARS = 4_200  # a little more than an answer may have
_MAX_SENTENCES = 50
_TAGS = re.compile(
    r"</?(?:b|strong|i|em|u|p|span|h[1-6]|div|code|mark|center|font|li|ul|ol|s|del|small|big)\b[^<>\n]{0,80}>", re.I
)
_LINE_END = re.compile(r"<br ?/?>|<\|[a-z_]{1,24}\|>|\\\\\s*$|</[a-z_]{2,24}>", re.I)
_EMPHASIS = re.compile(r"(?<![\w)])(?:\*{2,3}|~~)|(?:\*{2,3}|~~)(?![\w(])|(?<!\w)__|__(?!\w)")
_HASHES = re.compile(r"^#{1,6} ?|#{2,6}$")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0f"))
_EDGES = " \t\r\n\f\v\u00a0\u202f\u3000*_~`"
_EMOJI = re.compile(r"[\U0001F000-\U0001FAFF\u2600-\u27BF]")
_DEPTHS = {"{": 1, "}": -1}
_WRAPPERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("```", "```"), ("「", "」"), ("『", "』"))
_ANGLED = re.compile(r"<([^<>A-Za-z]*\d[^<>A-Za-z]*|[A-J])>")
_OPTION = re.compile(r"<([A-J])>(?![^\n]{0,400}</)")
_MARKED_END = re.compile(r"(?<=\w)(?:={2,}|\|{2,})$")
_COMMANDS = re.compile(r"\\(?:boxed|fbox|text|textbf|textit|mathrm|mathbf|boldsymbol|underline|mbox|emph|bm)\s?\{")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s?\{([^{}]*)\}")
_ANNOUNCED = re.compile(
    r"^(?:so |thus,? |therefore,? |hence,? )?(?:the |my )?(?:(?:correct|final) )*"
    r"(?:answer|option|choice)(?: is|:| =| is:)\s+(?=\S)",
    re.I,
)
_COPULA = re.compile(r"(?:입니다|이다|です|である|となります|になります|だ)[.。]?$")

_LETTER_IN_BRACKETS = re.compile(r"^(?:option |choice |answer )?[(\[]?([A-Ja-h])[)\]](?=\W|$)\s*(.*)$", re.S | re.I)
_LETTER_AND_TEXT = re.compile(  # "J. K. Rowling" has initials, "I. and II." are several
    r"^(?:option |choice )?([A-J])(?:[.:：]\s+(?![A-Z]\.|and\b|or\b|&)|\s+[-–—]\s+|\s+(?=\(\w))(\S.+)$", re.S
)
_LETTER_OR_INITIAL = (
    re.compile(  # "C. elegans", "F. Scott Fitzgerald"; an option's text may look the same, as "B. Paris" does
        r"([A-J]\. (?!(?i:yes|no|true|false|all|none|both|neither|the|an?|it|i)\b)"
        r"(?:[a-z]{3,}(?: [a-z]{4,})?|[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2}))(?:,? ?[(\[].*|, .*)?"
    )
)
_LETTER_AND_REASON = re.compile(r"^(?:(?:option|choice)\s+)?\(?([A-Ja-h])\)?,?\s+(?:because|since|as|is|which)\b", re.I)
_YES_OR_NO = re.compile(  # with its reason; not a list of several, an answer of two parts, or number five: "No. 5"
    r"^(?!no\. ?\d)(yes|no|true|false)(?:(?:[,;:.]| [—–-]) (?!(?:and |or )?(?:yes|no|true|false)\b|-?[\d.,]+\W*$)"
    r"| (?:\(|because\b|since\b))",
    re.I,
)
_NAMED_LETTER = re.compile(r"^(?:option|choice)\s+\(?([A-J])\)?\W*$", re.I)
_OTHER_PART = re.compile(r"(?<!\w)[(\[]?[b-j][)\]]|^(?:,|;|&|/|and\b|or\b)\s*[(\[]?[a-j]\W*$", re.I)

_MATHS_HEAD = re.compile(r"[\s\\$€£¥₹({\[+\-−–±~≈]*(?:\d|frac|dfrac|tfrac|sqrt|pi\b|π|√|∞|infty)")
_SENTENCE_END = re.compile(r"(?<=[\w)\]}%°$€!²³])[.!?。！？](?=\s|$)|[。！？]")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Mt|Prof|Jr|Sr|No|vs|approx|ca|cf|al|Inc|Ltd|Co|e\.g|i\.e)|(?<!\d )(?<!['’])\b[A-Za-z]|\.[A-Za-z])$"
)
_SHORT_UNIT = re.compile(r"\d ?(?:ft|in|yd|lbs?|oz|hrs?|mins?|secs?|yrs?|mos?)$", re.I)
_REMARK = re.compile(
    r"\s*(?:Let|I|I'm|I’m|Hope|This|That|These|The|It|Please|If|Because|Since|So|Therefore|Thus|Explanation|Note|We|You|As|In|"
    r"Feel|Is|Would|Do|Thank|Good|Great|Here|Hence|There|For|Given|Based|Now|To|Wait|Hmm|But|However|Actually|And|Also|Check|"
    r"Confidence|Would|Ok|Okay|Done|\*|\(|$)(?!\w)"
)
_REASON = re.compile(
    r",? (?:because|since|as|which|so that|i\.e\.|given that|where) | [—–] (?=[A-Za-z]{2})|; (?=[A-Za-z]{2})", re.I
)
_ENDING_IN_NUMBER = re.compile(
    r"^(?:\S+ ){2,}(?:is|are|equals|was) ([$€£]?-?[\d][\d,.]*(?: ?%| ?[a-zA-Z²³/]{1,12})?)\.?$"
)

_ANGLE_PLACEHOLDER = re.compile(r"^<[^<>=\d]{1,120}>?\.?$")
_PLACEHOLDER = re.compile(
    r"^[\[({<]{1,2}[^\[\](){}<>]{0,40}\b(?:your|insert|answer|final|number|result|value|letter|option|here|solution|integer)\b[^\[\](){}<>]{0,60}"
    r"[\])}>]{1,2}\.?$",
    re.I,
)
_WORD_PLACEHOLDER = re.compile(r"^(?:your|the|insert)?\s*(?:final )?(?:answer|result)(?: goes)?(?: here)?\.?$", re.I)
_SAYS_SOMETHING = re.compile(r"[^\W_]|[∞∅∪∩√+=<>≤≥≠×÷&%\])}]")


def tidied(raw: str) -> str | None:
    """The answer that a line holds, as it was written; None for nothing or a placeholder."""
    text = " ".join(raw[:_MAX_CHARS].translate(_INVISIBLE).split())
    text = _LINE_END.split(without_tags(text), maxsplit=1)[0]
    for _ in range(8):
        before = text
        text = _HASHES.sub("", _without_emoji(_EMPHASIS.sub("", text).strip(_EDGES))).strip(_EDGES)
        text = _unwrapped(_ANNOUNCED.sub("", text))
        if text == before:
            break
    if is_placeholder(text):
        return None
    if not re.search(r"[^\W_]", text):
        return raw.strip(_EDGES + ".\n") or None  # an operator, brackets
    text = _choice(text) or _without_remark(text)
    return _unwrapped(text) or None


def without_tags(text: str) -> str:
    """The text without HTML's tags for looks and paragraphs; a tag that nothing closes may be an option: <B>."""
    return _TAGS.sub("", _OPTION.sub(r"\1", text))


def is_placeholder(text: str) -> bool:
    """True for what stands where an answer should: "...", "<your answer>", nothing."""
    return (
        _SAYS_SOMETHING.search(text) is None
        or text in ("[]", "()", "{}", "<>", "[ ]", "( )", "{ }")
        or _ANGLE_PLACEHOLDER.match(text) is not None
        or _PLACEHOLDER.match(text) is not None
        or _WORD_PLACEHOLDER.match(text) is not None
    )


def is_mathematical(text: str) -> bool:
    """True for what begins like a number, a formula or an amount."""
    return _MATHS_HEAD.match(text) is not None


def is_choice(text: str) -> bool:
    """True for a letter that stands for one of several options."""
    return re.fullmatch(r"[A-Ja-h]|[A-J](?:(?:, | and )[A-J])+", text) is not None


def has_letter_or_initial(text: str) -> bool:
    """True for a letter with a full stop and a few words behind it: an option with its text, or a name with an initial."""
    return _LETTER_OR_INITIAL.fullmatch(text) is not None


def first_sentence(text: str) -> tuple[str, bool]:
    """The text up to the end of its first sentence, and whether something comes behind it."""
    for match in islice(_SENTENCE_END.finditer(text), _MAX_SENTENCES):
        head = text[: match.start()]
        if text[match.start()] == "!" and not text[match.end() :].strip() and is_mathematical(head):
            continue  # 5! is a factorial
        rest = text[match.end() :]
        is_remark = _REMARK.match(rest) is not None
        if re.match(r",? \d", rest) and _SHORT_UNIT.search(head[-8:]):
            continue  # 5 ft. 3 in.
        is_short = _ABBREVIATION.search(head[-8:]) is not None
        if is_short and not (rest.strip() and is_remark) and (rest.strip() or "." in head[-3:]):
            continue
        if not rest.strip() or is_remark or is_mathematical(head) or is_choice(head):
            return head.rstrip(), bool(rest)
    return text, False


def _without_emoji(text: str) -> str:
    while text and _EMOJI.match(text[-1]):
        text = text[:-1].rstrip()
    while text and _EMOJI.match(text[0]):
        text = text[1:].lstrip()
    return text


def _unwrapped(text: str) -> str:
    """The text without one layer of delimiters around all of it."""
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        if (
            len(text) > len(opening + closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and opening not in inner
        ):
            return inner
    match = _COMMANDS.match(text)
    if match and text.endswith("}"):
        inner = text[match.end() : -1]
        if _is_balanced(inner):
            return inner
    text = _MARKED_END.sub("", text)
    is_odd = (
        text.count('"') % 2 == 1 if text.endswith('"') else text[-1:] in (")", "]") and not re.search(r"[(\[]", text)
    )
    if is_odd and re.search(r"\w\W*$", text[:-1]):
        return text[:-1]  # it was opened before the label
    if match := _ANGLED.fullmatch(text):
        return match[1]
    if text.endswith("$") and text.count("$") == 1:
        return text[:-1]  # the other one stood before the label
    if len(text) < 2:
        return text
    if text.endswith("}") and not _is_balanced(text) and _is_balanced(text[:-1]):
        return text[:-1]
    if text.startswith("}"):
        return text[1:]
    return text


def _is_balanced(text: str) -> bool:
    depths = list(accumulate(map(_DEPTHS.get, text, repeat(0)), initial=0))
    return min(depths) == 0 == depths[-1]


def _choice(text: str) -> str | None:
    """The letter of an option, without the option's text; both where it may be a name: the other answers of the step tell."""
    text = _TEXT.sub(r"\1", text)
    if match := _LETTER_OR_INITIAL.fullmatch(first_sentence(text)[0]):
        return match[1]
    if (match := _LETTER_IN_BRACKETS.match(text)) and not _OTHER_PART.search(match[2]):
        return match[1]
    if match := _LETTER_AND_TEXT.match(text) or _LETTER_AND_REASON.match(text) or _NAMED_LETTER.match(text):
        return match[1]
    return None


def _without_explanation(text: str) -> str:
    """The text without words in parentheses at its end; what is reckoned modulo stays."""
    start = text.rfind(" (")
    inside = text[start + 2 : -1]
    is_explained = start > 0 and text.endswith(")") and not inside.lstrip().startswith("mod") and "(" not in inside
    return text[:start].rstrip() if is_explained and re.search(r"[A-Za-z]{3}", inside) else text


def _without_remark(text: str) -> str:
    """The answer without the sentences, reasons and explanations behind it."""
    text = _COPULA.sub("", first_sentence(text)[0])
    if match := _YES_OR_NO.match(text):
        return match[1]
    if is_mathematical(text):
        text = _REASON.split(text, maxsplit=1)[0]
        text = _without_explanation(text)
    if match := _ENDING_IN_NUMBER.match(text):
        text = match[1]
    return text.strip(_EDGES)
