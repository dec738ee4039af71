"""How likely a direct answer is wrong, from a question's figures: logistic regression, learned from what is recorded.

P(wrong | x) = 1 / (1 + exp(-(b + sum_i w_i (x_i - m_i) / s_i))), x_i the figures of `features.FEATURES`; Cox, "The Regression
Analysis of Binary Sequences", JRSS B 20 (1958).
"""

import math
from typing import Annotated

from msgspec import Meta, Struct

from conclave.domain.routing.features import FEATURES, Seen, figures

CLASSIFIER_VERSION = 1  # of the file's shape


class Weight(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one figure counts for: how far it lies from the mean of the training data, in standard deviations, times `weight`."""

    feature: str
    mean: float
    deviation: Annotated[float, Meta(gt=0.0)]
    weight: float


class Figures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How good a classifier is, measured on questions that it was not trained on, in `num_folds` parts in turn."""

    num_examples: int
    num_folds: int
    share_wrong: float  # of the direct answers: what a classifier that knows nothing would say
    accuracy: float  # at one half
    auc: float  # area under the ROC curve: 0.5 knows nothing
    log_loss: float  # in nats
    log_loss_of_share: float  # of always saying `share_wrong`
    sources: dict[str, int]  # where the examples come from, and how many


class Classifier(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A classifier of difficulty as it is stored, in JSON."""

    version: Annotated[int, Meta(ge=1, le=CLASSIFIER_VERSION)] = CLASSIFIER_VERSION
    trained_at: str  # RFC 3339
    about: str = ""
    intercept: float
    weights: tuple[Weight, ...]
    figures: Figures

    def __post_init__(self) -> None:
        unknown = [each.feature for each in self.weights if each.feature not in FEATURES]
        if unknown:
            raise ValueError(f"`feature` must be one of {', '.join(FEATURES)}, got {unknown[0]!r} - at `$.weights`")


def difficulty(classifier: Classifier, seen: Seen) -> float:
    """The probability that a direct answer to the question is wrong."""
    measured = figures(seen, tuple(each.feature for each in classifier.weights))
    score = classifier.intercept + sum(
        each.weight * (value - each.mean) / each.deviation
        for each, value in zip(classifier.weights, measured, strict=True)
    )
    return 1.0 / (1.0 + math.exp(-min(max(score, -500.0), 500.0)))
