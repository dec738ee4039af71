"""What of a path is handed on, and how what was decoded before a cut and after it becomes one. Pure."""

import itertools
import struct
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from conclave.domain import bounds
from conclave.domain.token_confidence import TokenConfidence
from conclave.engine.cut import Prefix
from conclave.engine.protocol import Decoded
from schemas.values import MAX_TEXT_CHARS, BegunTurn, FinishReason, Progress, Turn, TurnFigures

MAX_PROGRESS_BYTES = 1_500_000  # beside its step in its event


def storable(text: str) -> str:
    """The text as JSON and PostgreSQL can hold it: no NUL, no lone surrogates, as long as before."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def begun(decoded: Decoded, model: str) -> BegunTurn:
    """What there is of a turn that was cut."""
    pieces = decoded.token_texts if len(decoded.token_texts) == len(decoded.token_logprobs) else ()
    said = "".join(pieces)
    return BegunTurn(
        text=storable(decoded.text),
        figures=figures(decoded),
        logprobs=packed("f", decoded.token_logprobs),
        pieces=pieces if said == storable(said) else tuple(map(storable, pieces)),
        token_ids=packed("I", decoded.token_ids),
        model=model,
    )


def prefix(of: BegunTurn) -> Prefix:
    """The same for an engine, to go on from."""
    return Prefix(of.text, of.figures.tokens_out or 0, tuple(map(int, unpacked("I", of.token_ids))), of.model)


def logprobs(of: BegunTurn) -> tuple[float, ...]:
    """Those of its tokens."""
    return unpacked("f", of.logprobs)


def figures(decoded: Decoded, sure: TokenConfidence | None = None) -> TurnFigures:
    """What the engine said of a turn, and how sure its tokens were where that is known."""
    return TurnFigures(
        finish_reason=decoded.finish_reason,
        tokens_in=decoded.tokens_in,
        tokens_out=decoded.tokens_out,
        mean_logprob=decoded.mean_logprob,
        min_logprob=decoded.min_logprob,
        answer_logprob=None if sure is None else sure.answer,
        lowest_group_logprob=None if sure is None else sure.lowest_group,
        tail_logprob=None if sure is None else sure.tail,
        queued_ms=decoded.queued_ms,
        first_token_ms=decoded.first_token_ms,
        total_ms=decoded.total_ms,
        reasoning=storable(decoded.reasoning)[:MAX_TEXT_CHARS],
    )


def decoded_before(turn: Turn, said: TurnFigures) -> tuple[Decoded, TokenConfidence]:
    """A turn that was handed on, as it was when it was over; of its single tokens nothing is known any more."""
    decoded = Decoded(
        text=turn.text,
        finish_reason=said.finish_reason,
        tokens_in=said.tokens_in,
        tokens_out=said.tokens_out,
        mean_logprob=said.mean_logprob,
        min_logprob=said.min_logprob,
        queued_ms=said.queued_ms,
        first_token_ms=said.first_token_ms,
        total_ms=said.total_ms,
        reasoning=said.reasoning,
    )
    return decoded, TokenConfidence(said.lowest_group_logprob, said.tail_logprob, said.answer_logprob)


def progress(
    turns: Sequence[Turn],
    said: Iterable[TurnFigures],
    cut: BegunTurn | None,
    *,
    waited_ms: float,
    before: Progress | None,
) -> Progress | None:
    """How far a path has come; None where that is more than its event has room for."""
    if cut is not None and len(cut.text) > MAX_TEXT_CHARS:
        return None
    made = Progress(
        num_handed_on=1 + (0 if before is None else before.num_handed_on),
        turns=tuple(turns),
        figures=tuple(said),
        begun=cut,
        waited_ms=waited_ms,
    )
    return made if bounds.size(made) <= MAX_PROGRESS_BYTES else None


# -- what was decoded before a cut, and after it ----------------------------------------------------------------------


def joined(before: BegunTurn, rest: Decoded, stop: Sequence[str] = ()) -> Decoded:
    """The turn as if it had not been cut: its text, its tokens counted once, its prompt's too, and figures over all of them.

    A stop string may begin before the cut and end after it, where no engine sees it: what follows was said in vain.
    """
    first = before.figures
    num_before, text = first.tokens_out or 0, before.text + rest.text
    token_logprobs, pieces = _tokens(before, rest)
    ids = unpacked("I", before.token_ids)
    know_ids = len(ids) == num_before and len(rest.token_ids) == rest.tokens_out
    whole = replace(
        rest,
        text=text,
        tokens_in=first.tokens_in,
        tokens_out=None if rest.tokens_out is None else num_before + rest.tokens_out,
        token_logprobs=token_logprobs,
        token_texts=pieces,
        token_ids=(*map(int, ids), *rest.token_ids) if know_ids else (),
        queued_ms=first.queued_ms + rest.queued_ms,
        first_token_ms=first.first_token_ms if num_before else first.total_ms + rest.first_token_ms,
        total_ms=first.total_ms + rest.total_ms,
        reasoning=first.reasoning + rest.reasoning,
    )
    end = _stopped(len(before.text), text, stop)
    if end is not None:
        whole = _until(whole, *end)
    mean_logprob, min_logprob = _mean_and_least(whole, first, rest)
    return replace(whole, mean_logprob=mean_logprob, min_logprob=min_logprob)


def ended_at_limit(before: BegunTurn) -> Decoded:
    """A turn that ends where it was cut: the model that goes on has no room for more."""
    first = before.figures
    return Decoded(
        text=before.text,
        finish_reason=FinishReason.LENGTH,
        tokens_in=first.tokens_in,
        tokens_out=first.tokens_out,
        mean_logprob=first.mean_logprob,
        min_logprob=first.min_logprob,
        queued_ms=first.queued_ms,
        first_token_ms=first.first_token_ms,
        total_ms=first.total_ms,
        reasoning=first.reasoning,
        token_logprobs=logprobs(before),
        token_texts=before.pieces,
    )


def _tokens(before: BegunTurn, rest: Decoded) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Log probabilities and texts of all tokens; none where those of either part are not known."""
    first = logprobs(before)
    if len(first) != (before.figures.tokens_out or 0) or (rest.tokens_out and not rest.token_logprobs):
        return (), ()
    has_pieces = len(before.pieces) == len(first) and len(rest.token_texts) == len(rest.token_logprobs)
    return (*first, *rest.token_logprobs), (*before.pieces, *rest.token_texts) if has_pieces else ()


def _mean_and_least(whole: Decoded, first: TurnFigures, rest: Decoded) -> tuple[float | None, float | None]:
    """Mean and least log probability of a turn: of its tokens, else of what is known of its two parts."""
    if whole.token_logprobs:
        known = whole.token_logprobs
        return sum(known) / len(known), min(known)
    num_tokens, total, least = 0, 0.0, 0.0
    for each in (first, rest):
        if each.tokens_out == 0:
            continue
        if each.tokens_out is None or each.mean_logprob is None or each.min_logprob is None:
            return None, None
        num_tokens, total = num_tokens + each.tokens_out, total + each.tokens_out * each.mean_logprob
        least = min(least, each.min_logprob)
    return (total / num_tokens, least) if num_tokens else (None, None)


def _stopped(num_before: int, text: str, stop: Sequence[str]) -> tuple[int, int] | None:
    """From where to where a stop string stands in the text that begins before the cut and ends after it."""
    found = []
    for each in stop:
        at = text.find(each, max(0, num_before - len(each) + 1), num_before + len(each) - 1)
        if 0 <= at < num_before:
            found.append((at, at + len(each)))
    return min(found, default=None)


def _until(whole: Decoded, begin: int, end: int) -> Decoded:
    """A turn that ends before a stop string; of its tokens those up to the string's end tell how sure it was."""
    pieces = whole.token_texts
    ends = list(itertools.accumulate(map(len, pieces)))
    num_tokens = next((number for number, reached in enumerate(ends, 1) if reached >= end), len(whole.token_logprobs))
    return replace(
        whole,
        text=whole.text[:begin],
        finish_reason=FinishReason.STOP,
        token_logprobs=whole.token_logprobs[:num_tokens],
        token_texts=pieces[:num_tokens],
        aborted=None,
        is_cut=False,
    )


# -- numbers as bytes -------------------------------------------------------------------------------------------------


def packed(kind: str, numbers: Sequence[float]) -> bytes:
    """Numbers as an event holds them: four bytes each, little-endian, of `kind` "f" (floats) or "I" (from 0 on)."""
    return struct.pack(f"<{len(numbers)}{kind}", *numbers)


def unpacked(kind: str, data: bytes) -> tuple[float, ...]:
    """The numbers."""
    return struct.unpack(f"<{len(data) // 4}{kind}", data)
