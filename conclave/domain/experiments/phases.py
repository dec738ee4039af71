"""An experiment that begins unseen: a shadow first, then its ramp. Which of the two is in force says the version of the weights.

The phase travels with the weights and not as a change of the experiment: a kill is a change, and nothing that the reweighter
publishes can come after it and undo it (decisions 0020 and 0051).
"""

from msgspec.structs import replace

from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Experiment


def ramp_since(revision: int, weights: WeightsPublished | None) -> int:
    """The version of the weights at which a run went from shadow to ramp; 0 while it has not."""
    return weights.ramp_since if weights is not None and weights.revision == revision else 0


def as_it_is(experiment: Experiment, has_ramped: bool | int) -> Experiment:
    """The experiment of one phase: a shadow without the ramp that may follow, or that ramp without its shadow."""
    if experiment.shadow is None or not experiment.ramp:
        return experiment
    return replace(experiment, shadow=None) if has_ramped else replace(experiment, ramp=())


def in_force(change: ExperimentChanged, weights: WeightsPublished | None) -> Experiment:
    """The experiment of the phase that a run is in, by the newest version of its weights."""
    return as_it_is(change.definition, ramp_since(change.revision, weights))


def candidate_of(experiment: Experiment) -> str:
    """Of two arms, the one that is not the control."""
    (candidate,) = (arm for arm in experiment.arms if arm != experiment.control)
    return candidate
