"""What becomes of a path, as events: it is decoded, with its sums over all turns, or has failed, with what it has cost."""

import time
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from conclave.domain import bounds, long_texts
from conclave.domain.programs import End
from conclave.domain.token_confidence import TokenConfidence, token_confidence
from conclave.engine.protocol import Decoded, Engine
from schemas.events import Event, PathDecoded, PathFailed, SampleRequested
from schemas.values import MAX_TEXT_CHARS, FinishReason, PathFailure
from services.decoder.handing_on import storable
from services.decoder.rollout import Rollout

_MAX_REASONING_BYTES = 393_216


def decoded(event: SampleRequested, path: Rollout, end: End, engine: Engine, *, load: float) -> PathDecoded:
    """The path with its sums over all turns; log probabilities are those of the turn that gave the answer."""
    *before, last = path.turns
    answering, sure = path.decoded.get(end.turn), _token_confidence(path, end)
    whole = _together(tuple(path.decoded.values()))
    room = MAX_TEXT_CHARS - sum(len(turn.text) for turn in path.turns) if whole.reasoning else 0
    return PathDecoded(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        turns=tuple(before),
        form=last.form if before else None,
        text=last.text,
        answer=end.answer,
        probability=end.probability,
        finish_reason=whole.finish_reason,
        tokens_in=whole.tokens_in,
        tokens_out=whole.tokens_out,
        tokens_cached=whole.tokens_cached,
        mean_logprob=answering.mean_logprob if answering else None,
        min_logprob=answering.min_logprob if answering else None,
        waited_ms=path.waited_ms,
        queued_ms=whole.queued_ms,
        first_token_ms=whole.first_token_ms,
        total_ms=whole.total_ms,
        model=engine.model,
        engine=engine.name,
        answer_logprob=sure.answer,
        lowest_group_logprob=sure.lowest_group,
        tail_logprob=sure.tail,
        load=load,
        is_declined=end.answer is None and path.turns[end.turn].is_declined,
        reasoning=_storable_thought(whole.reasoning, room),
        num_handed_on=_num_handed_on(event),
    )


def _token_confidence(path: Rollout, end: End) -> TokenConfidence:
    """How sure the tokens were of the turn that gave the answer; nothing where its engine says nothing of them."""
    answering = path.decoded.get(end.turn)
    if answering is None:
        return token_confidence(())
    if (
        known := path.sure.get(end.turn)
    ) is not None:  # by the decoder that handed it on, of the answer that it read there
        return known if end.answer == path.turns[end.turn].answer else replace(known, answer=None)
    return token_confidence(answering.token_logprobs, answering.token_texts, text=answering.text, answer=end.answer)


def _together(spoken: Sequence[Decoded]) -> Decoded:
    """All turns as one: what they cost together, None where one's cost is unknown, and thoughts in a row. Most paths have one."""
    if len(spoken) == 1:
        return spoken[0]
    return Decoded(
        text="",
        finish_reason=spoken[-1].finish_reason if spoken else FinishReason.NONE,
        tokens_in=_total(each.tokens_in for each in spoken),
        tokens_out=_total(each.tokens_out for each in spoken),
        tokens_cached=_total(each.tokens_cached for each in spoken),
        mean_logprob=None,
        min_logprob=None,
        queued_ms=sum(each.queued_ms for each in spoken),
        first_token_ms=spoken[0].first_token_ms if spoken else 0.0,
        total_ms=sum(each.total_ms for each in spoken),
        reasoning="\n\n".join(each.reasoning for each in spoken if each.reasoning),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(each or 0 for each in known)


def _storable_thought(thought: str, room: int) -> str:
    """What the engine told apart as thoughts: with the texts no longer than a text, or its event, may be."""
    return bounds.beginning(storable(thought)[: max(0, room)], _MAX_REASONING_BYTES) if thought else ""


def is_wordless(spoken: Sequence[Decoded]) -> bool:
    """True when the engine ended each turn without a word. A call of a tool that is not ours has none and is something."""
    if not spoken or spoken[-1].text or spoken[-1].finish_reason is FinishReason.TOOL_CALLS:
        return False
    return not any(each.text or each.reasoning for each in spoken)


def without_a_word(event: SampleRequested, decoded: Decoded, started: float, path: Rollout) -> PathFailed:
    """The failure of a path of which nothing came; it has its cost all the same."""
    cost = " + ".join("unknown" if each is None else str(each) for each in (decoded.tokens_in, decoded.tokens_out))
    ended = f"no text, finish reason {decoded.finish_reason.value}, {cost} tokens"
    if decoded.finish_reason is FinishReason.CONTENT_FILTER:
        message = f"the server's content filter left nothing: {ended}"
        return failed(event, PathFailure.CONTENT_FILTERED, message, started, path)
    speaker = "model said" if decoded.tokens_out else "server sent"
    return failed(event, PathFailure.NOTHING_SENT, f"the {speaker} nothing: {ended}", started, path)


def with_long_text(end: PathDecoded, path: Rollout) -> Sequence[Event]:
    """The path; what its last turn says goes before it in chunks if it is too long for the event, which keeps its end."""
    last = path.decoded.get(len(path.turns) - 1)
    whole = end.text if last is None else storable(last.text)
    if whole == end.text and not long_texts.is_long(whole):
        return [end]
    shown, where, chunks = long_texts.stored(end.context.request_id, whole)
    return [*chunks, replace(end, text=shown, long_text=where)]


def failed(
    event: SampleRequested, failure: PathFailure, message: str, started: float, path: Rollout | None = None
) -> PathFailed:
    """The failure of a path, which has come as far as `path` says, with what it has cost."""
    turn = f"in turn {len(path.turns) + 1}: " if path is not None and path.turns else ""
    spent = path or event.progress
    return PathFailed(
        context=event.context,
        sample_index=event.sample_index,
        launched=event.launched,
        failure=failure,
        message=storable(turn + message)[:4096],
        tokens_in=spent.tokens_in if spent is not None else 0,
        tokens_out=spent.tokens_out if spent is not None else 0,
        total_ms=(time.perf_counter() - started) * 1000,
        num_handed_on=_num_handed_on(event),
    )


def _num_handed_on(event: SampleRequested) -> int:
    return 0 if event.progress is None else event.progress.num_handed_on
