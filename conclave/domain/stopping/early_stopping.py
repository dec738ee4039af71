"""Early-stopping self-consistency: windows, until one agrees. ESC, arXiv 2401.10480."""

from conclave.domain.params import Param, Params, whole_number
from conclave.domain.stopping.labels import Labels
from schemas.values import MAX_SAMPLES, Ask

PARAMS: Params = {"window": Param(5, 1, MAX_SAMPLES, is_whole=True)}


def num_needed(labels: Labels, ask: Ask) -> int:
    """Satisfied when a whole window agrees: samples are taken `window` at a time, one after the other.

    Algorithm 1. A sample without an answer breaks its window.
    """
    width = window(ask)
    num_open = len(labels) % width
    if labels and num_open == 0 and _agree(labels[-width:]):
        return 0
    open_window = labels[len(labels) - num_open :]
    return width - num_open if not open_window or _agree(open_window) else 2 * width - num_open


def window(ask: Ask) -> int:
    """The width of the windows; the answer is that of the one that agrees, whatever was said before."""
    return whole_number(ask.params, PARAMS, "window")


def _agree(window: Labels) -> bool:
    return bool(window[0]) and all(label == window[0] for label in window)
