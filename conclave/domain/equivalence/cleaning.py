"""An answer without what only dresses it: invisible characters, look-alikes, LaTeX's and Markdown's markup, quotes.

`cleaned` is total and idempotent. What it leaves is plain text in which formulas are written in one way: \\frac{1}{2}, \\sqrt{2},
x^{2}, π, ∞, ≤, 1/2 for ½, ^{2} for ².
"""

import re
import unicodedata
from functools import lru_cache

MAX_CHARS = 512  # longer text is no short answer: it is compared as it is

_MAX_LAYERS = 12

_MINUSES = dict.fromkeys("−–—‐‑‒―﹣－⁻", "-")
_QUOTES = dict.fromkeys("“”„‟«»″「」『』", '"') | dict.fromkeys("‘’‚‛′`´", "'")
_PAIRED_SIGNS = "∕/ ⁄/ ÷/ ×* ✕* ·* ⋅* ∙* ∗* ٪% ٫. ٬, º° ˚° ≦≤ ≧≥ ⩽≤ ⩾≥ 。. 、, ∶: ΩΩ µμ ！! ？?".split()
_SIGNS = {pair[0]: pair[1] for pair in _PAIRED_SIGNS} | {"…": "...", "√": "\\sqrt"}
_LOOKALIKES = str.maketrans(_MINUSES | _QUOTES | _SIGNS)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED, _LOWERED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞↉]")

_GREEK = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π "
    "rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ "
    "Psi Ψ Omega Ω"
)
_NAMED = (
    "cdot * times * ast * div / pm ± mp ∓ le ≤ leq ≤ leqslant ≤ ge ≥ geq ≥ geqslant ≥ ne ≠ neq ≠ lt < gt > approx ≈ sim ≈ "
    "infty ∞ in ∈ cup ∪ cap ∩ emptyset ∅ varnothing ∅ degree ° lbrace { rbrace } ldots ... dots ... cdots ... mid | vert | "
    "lvert | rvert | to → rightarrow → longrightarrow → Rightarrow ⇒ implies ⇒ land ∧ lor ∨ neg ¬ euro € pounds £ colon : "
    "backslash \\"
)
_PAIRS = (_GREEK + " " + _NAMED).split()
_SYMBOLS = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
_NOTHING = frozenset(
    "left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle limits nolimits boldmath rm bf it "
    "centering large Large".split()
)
_SPACES = {"quad", "qquad", "space", "enspace", "thinspace"}
_WRAPPING = (
    "text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathbb|mathcal|boldsymbol|bm|mbox|hbox|operatorname|"
    "emph|underline|boxed|fbox|framebox|ensuremath|mathop"
)
_WRAPPED = re.compile(rf"\\(?:{_WRAPPING})\*?\s*\{{([^{{}}]*)\}}")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_SPACING = re.compile(r"\\[,;: >]|\\\\|(?<=.)~")
_DEGREES = re.compile(r"\^\s*\{?\s*(?:\\circ|°|\\degree)\s*\}?|\\circ(?![a-zA-Z])")
_FRACTION = re.compile(r"\\frac\s*(\d|[a-zA-Z]|\{[^{}]*\})\s*(\d|[a-zA-Z]|\{[^{}]*\})")
_ROOT = re.compile(r"\\sqrt\s*(\[\d+\])?\s*(\d+|[a-zA-Z]|π)")
_ROOT_OF_ASCII = re.compile(r"(?<![\\a-zA-Z])sqrt\s?\(([^()]*)\)")
_RAISED_BARE = re.compile(r"\^\s*(-?\d+|[a-zA-Z])")
_MATHS = re.compile(r"\$(?=\S)([^$]*)(?<=\S)\$(?!\d)|\$ ([^$]*) \$(?! ?\d)")
_DELIMITERS = re.compile(r"\$\$|\\[()\[\]]")
_EMPHASIS = re.compile(r"^\*+(?=\S)|(?<![\w)])(?:\*{2,3}|~~)(?=\S)|(?<=\S)(?:\*{2,3}|~~)(?![\w(])|(?<=\S)\*+$")
_THIN, _COLOURED = re.compile(r",\\! ?"), re.compile(r"\\(?:text)?color\s?\{[^{}]*\}")
_TAGS = re.compile(r"</?(?:b|strong|i|em|u|p|span|code|mark|sup|sub|br|div|center)\b[^<>]{0,60}/?>", re.IGNORECASE)
_END = " \t.,;:!?\\"


@lru_cache(maxsize=16_384)
def cleaned(answer: str) -> str:
    """The answer as plain text. Raises nothing; cleaning twice changes nothing."""
    written = " ".join(answer.split())
    text = " ".join(_characters(written).split()) if len(written) <= MAX_CHARS else written
    for _ in range(_MAX_LAYERS):
        if len(text) > MAX_CHARS:
            break
        bare = _undressed(text)
        if bare == text:
            return text
        text = bare
    return written


def _characters(text: str) -> str:
    """The text with one character for each meaning."""
    text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/") + " ", text)
    text = _RAISED.sub(lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    text = unicodedata.normalize("NFKC", text.translate(_LOOKALIKES))
    return "".join(_character(char) for char in text).translate(_LOOKALIKES)


def _character(char: str) -> str:
    if char < "\x7f" and char >= " ":
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.digit(char))
    if category == "Zs" or char in "\t\n\r\f\v":
        return " "
    return "" if category in ("Cf", "Cc", "Cs") or char in "\ufe0e\ufe0f" else char


def _undressed(text: str) -> str:
    """The text without one layer of what surrounds or dresses it."""
    text = _TAGS.sub("", _THIN.sub(",", text.replace("{,}", ",")).replace("\\!", ""))
    text = _COLOURED.sub("", text)
    text = _WRAPPED.sub(r"\1", text)
    text = _BOXED.sub("", text)
    text = re.sub(r"\\\$", "USD ", text) if text.count("$") - text.count("\\$") else text.replace("\\$", "$")
    text = _MATHS.sub(r"\1\2", _DELIMITERS.sub("", text))
    text = _DEGREES.sub("°", re.sub(r"\\([dtc])frac", r"\\frac", text))
    text = re.sub(r"\\([%#&_{}|])", r"\1", _SPACING.sub(" ", text))
    text = _COMMAND.sub(_named, text)
    text = _FRACTION.sub(lambda match: "\\frac{" + match[1].strip("{}") + "}{" + match[2].strip("{}") + "}", text)
    text = _ROOT.sub(lambda match: "\\sqrt" + (match[1] or "") + "{" + match[2] + "}", text)
    text = _RAISED_BARE.sub(r"^{\1}", _ROOT_OF_ASCII.sub(r"\\sqrt{\1}", text))
    text = " ".join(_EMPHASIS.sub("", text).split())
    return _without_end(_without_quotes(text))


def _named(match: "re.Match[str]") -> str:
    name = match[1]
    if name in _NOTHING:
        return ""
    if name in _SPACES:
        return " "
    # "3\pi r" must not become "3πr" with a lost word end; letters never follow a symbol without a space in LaTeX.
    return _SYMBOLS.get(name, match[0])


def _without_quotes(text: str) -> str:
    for mark in "\"'_":
        inner = text.strip(mark)
        if inner and text[0] == text[-1] == mark and mark not in inner:
            return inner.strip()
    return text


def _without_end(text: str) -> str:
    """The text without the punctuation behind it; 5! and n! keep their sign, 1/2... its dots."""
    bare = text.rstrip(_END)
    if text[len(bare) :].startswith("!") and re.search(r"(?:^|[^\w])(?:\d+|[a-zA-Z])$|\)$", bare):
        return bare + "!"
    return bare if bare else ""
