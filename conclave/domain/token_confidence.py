"""How sure a path's tokens were: figures of their log probabilities, for weighing its vote.

Deep Think with Confidence (arXiv 2508.15260) finds that a path goes wrong where it is unsure for a while, and that the mean over
the whole of it hides the place. There a token's confidence is taken over its twenty likeliest alternatives; here from the log
probability of the token itself, which every engine gives at little cost.
"""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from msgspec import Struct

MIN_GROUP_TOKENS, MAX_GROUP_TOKENS = 16, 2048
_GROUP_SHARE = 8


class TokenConfidence(Struct, frozen=True):
    """Mean log probabilities, natural, of some of a path's tokens; None where they are not known."""

    lowest_group: float | None  # of the group of tokens in a row that is least sure
    tail: float | None  # of the last group
    answer: float | None  # of the tokens of the answer


def token_confidence(
    logprobs: Sequence[float], pieces: Sequence[str] = (), *, text: str = "", answer: str | None = None
) -> TokenConfidence:
    """The figures of a path, of whose tokens these are the log probabilities and the texts (none where the engine says none).

    A group is an eighth of the path, 16 tokens at least and 2,048 at most; a path shorter than that is one group. The answer is
    looked for where it stands last in the text; of one that does not stand there as it was read nothing is known.
    """
    if not len(logprobs):
        return TokenConfidence(None, None, None)
    size = min(group_size(len(logprobs)), len(logprobs))
    sums = list(itertools.accumulate(logprobs, initial=0.0))
    groups = [(sums[end] - sums[end - size]) / size for end in range(size, len(sums))]
    of_answer = _span(pieces, text, answer) if len(pieces) == len(logprobs) else None
    return TokenConfidence(
        lowest_group=_logprob(min(groups)),
        tail=_logprob(groups[-1]),
        answer=None
        if of_answer is None
        else _logprob((sums[of_answer[1]] - sums[of_answer[0]]) / (of_answer[1] - of_answer[0])),
    )


def group_size(num_tokens: int) -> int:
    """The tokens in a group of a path of so many: an eighth, within bounds."""
    return max(MIN_GROUP_TOKENS, min(MAX_GROUP_TOKENS, num_tokens // _GROUP_SHARE))


def _span(pieces: Sequence[str], text: str, answer: str | None) -> tuple[int, int] | None:
    """The tokens, from and to, in which the answer stands last in the text; None if it does not, or they don't make it up."""
    said = "".join(pieces)
    begin, place = said.find(text) if text else -1, text.rfind(answer) if answer else -1
    if begin < 0 or place < 0 or not answer:
        return None
    first, last = begin + place, begin + place + len(answer)
    ends = list(itertools.accumulate(len(piece) for piece in pieces))
    return bisect_right(ends, first), bisect_left(ends, last) + 1


def _logprob(figure: float) -> float:
    """A figure as events hold it: never above 0, and no longer than it is exact."""
    return min(0.0, round(figure, 4))
