"""Which paths of a question to prefer to which: right ones to wrong ones, by what was said of the answer that won."""

from collections.abc import Mapping

from conclave.domain.vote_learning.labels import JudgedVote


def preferred(vote: JudgedVote, texts: Mapping[int, str], *, most: int) -> list[tuple[int, int]]:
    """Up to `most` pairs of samples (chosen, rejected), each sample in one pair at most, in launch order.

    Only samples count that have a text, and an answer of which is known whether it is right: after a thumbs-down without a
    correction none is known to be. Equal texts are taken once.
    """
    right: dict[str, int] = {}
    wrong: dict[str, int] = {}
    for ballot in vote.ballots:
        text, is_right = texts.get(ballot.sample_index, ""), vote.says_right(ballot.answer)
        if text and ballot.answer and is_right is not None:
            (right if is_right else wrong).setdefault(text, ballot.sample_index)
    return list(zip(right.values(), wrong.values(), strict=False))[:most]
