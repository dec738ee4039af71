"""A short answer as the LaTeX that Math-Verify's parser reads."""

import re

from conclave.domain.equivalence.cleaning import cleaned
from conclave.domain.equivalence.judged import FUNCTIONS

_PAIRS = (
    "α alpha β beta γ gamma δ delta ε epsilon θ theta λ lambda μ mu ν nu π pi ρ rho σ sigma τ tau φ phi χ chi ψ psi ω omega "
    "Γ Gamma Δ Delta Θ Theta Λ Lambda Σ Sigma Φ Phi Ψ Psi Ω Omega ∞ infty ≤ le ≥ ge ≠ ne ± pm ∪ cup ∩ cap ∈ in * cdot"
).split()
_NAMES = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
_SYMBOL = re.compile("[" + re.escape("".join(_NAMES)) + "]")
_FUNCTION = re.compile(rf"(?<![\\A-Za-z])({'|'.join(sorted(FUNCTIONS - {'inf'}, key=len, reverse=True))})(?![A-Za-z])")
_ROOT_OF_BRACKETS = re.compile(r"\\sqrt\s*\(([^()]*)\)")


def latex(answer: str) -> str:
    """The answer without what dresses it, symbols and functions as commands."""
    text = _FUNCTION.sub(r"\\\1", cleaned(answer))
    text = _ROOT_OF_BRACKETS.sub(r"\\sqrt{\1}", text)
    return _SYMBOL.sub(lambda found: f"\\{_NAMES[found[0]]} ", text)
