"""What a question needs, learned from stored outcomes: log-linear Poisson regression on its figures.

E[samples | x] = exp(b + sum_i w_i (x_i - m_i) / s_i), x_i the figures of `conclave.domain.routing.features`; McCullagh and Nelder,
"Generalized Linear Models" (1989), section 6.2.
"""

import math
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from conclave.domain.routing.difficulty import Weight
from conclave.domain.routing.features import FEATURES, Seen, figures
from schemas.values import Label

NEEDS_VERSION = 1  # of the file's shape
_MAX_CHARS = 4_096  # more is not read, as the figures are taken while a request waits


class Fit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How good an estimate is, measured on questions that it was not fitted on, in `num_folds` parts in turn."""

    num_examples: int
    num_questions: int
    num_folds: int
    mean_needed: float  # what an estimate that knows nothing would say
    deviance: float  # mean Poisson deviance, in nats
    deviance_of_mean: float  # of always saying the mean
    gain_at_least: float  # by how much the deviance is lower: the lower end of a one-sided interval of 95 %
    sources: dict[str, int]  # where the examples come from, and how many


class Needs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fitted estimate as it is stored, in JSON."""

    version: Annotated[int, Meta(ge=1, le=NEEDS_VERSION)] = NEEDS_VERSION
    fitted_at: str  # RFC 3339
    about: str = ""
    intercept: float
    weights: tuple[Weight, ...]
    most: Annotated[float, Meta(ge=1.0, le=1e6)]  # that any example needed: no question is said to need more
    fit: Fit
    digest: Label = ""  # of all the rest, computed as it is read

    def __post_init__(self) -> None:
        unknown = [each.feature for each in self.weights if each.feature not in FEATURES]
        if unknown:
            raise ValueError(f"`feature` must be one of {', '.join(FEATURES)}, got {unknown[0]!r} - at `$.weights`")
        told = (self.intercept, *(number for each in self.weights for number in (each.mean, each.weight)))
        if not all(map(math.isfinite, told)):
            raise ValueError("`intercept` and weights must be finite numbers")

    def points(self, question: str) -> float:
        """How many samples or rounds the question needs: from 1 to `most`."""
        measured = figures(seen(question), tuple(each.feature for each in self.weights))
        score = self.intercept + sum(
            each.weight * (value - each.mean) / each.deviation
            for each, value in zip(self.weights, measured, strict=True)
        )
        return min(max(math.exp(min(score, 50.0)), 1.0), self.most)


def seen(question: str) -> Seen:
    """What of a question its need goes by."""
    return Seen(question[:_MAX_CHARS])


def decoded(content: bytes) -> Needs:
    """What a file holds, with its digest. Raises: ValueError, saying what is wrong with it."""
    needs = msgspec.json.decode(content, type=Needs)  # its errors are ValueErrors
    said = msgspec.json.encode(replace(needs, digest=""), order="deterministic")
    return replace(needs, digest=blake2b(said, digest_size=8).hexdigest())
