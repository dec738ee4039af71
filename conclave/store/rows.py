"""Events to rows: a tuple a row, in the column order of its table. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec

from conclave.domain.recorded import RecordedEvent
from conclave.domain.voting import flips
from schemas.events import (
    AnswerReached,
    ApprovalGiven,
    ApprovalRequested,
    ExperimentChanged,
    FeedbackGiven,
    PathDecoded,
    PathFailed,
    PlanMade,
    PoliciesRead,
    ReasoningRequested,
    RequestFailed,
    StepDecided,
    TextStored,
    ToolRequested,
)
from schemas.ids import asked_at_ms
from schemas.values import Ballot, Step

Row = tuple[Any, ...]
Rows = dict[str, list[Row]]

# Every table of the record in the order in which a batch writes them; columns as in the migration.
TABLES: dict[str, tuple[str, ...]] = {
    "requests": ("request_id", "asked_at", "recorded_at", "policy", "max_samples", "deadline_s", "traceparent", "quality"),
    "request_payloads": ("request_id", "asked_at", "question", "tags"),
    "plans": (
        "request_id", "asked_at", "planned_at", "strategy", "arm", "propensity", "policy", "num_steps", "deadline_at",
        "policy_digest", "weights_version", "experiment", "revision", "unit", "draw", "log_partition", "log_offset",
        "recalled_from", "shadow_of", "shadow_experiment", "priority", "is_same_answer", "segment",
    ),
    "plan_payloads": ("request_id", "asked_at", "reasons"),
    "fingerprints": ("request_id", "asked_at", "key", "gist", "tenant"),
    "steps": ("request_id", "asked_at", "step_index", "depends_on", "ask", "mark"),
    "step_payloads": ("request_id", "asked_at", "step_index", "question", "fields", "why"),
    "paths": (
        "request_id", "asked_at", "step_index", "sample_index", "recorded_at", "launched", "failure", "answer",
        "finish_reason", "tokens_in", "tokens_out", "mean_logprob", "min_logprob", "queued_ms", "first_token_ms",
        "total_ms", "model", "engine", "policy", "arm", "probability", "answer_logprob", "lowest_group_logprob", "tail_logprob",
        "load", "is_declined", "waited_ms", "num_handed_on", "tokens_cached",
    ),
    "path_payloads": (
        "request_id", "asked_at", "step_index", "sample_index", "text", "form", "turns", "reasoning", "digest", "num_chunks",
    ),
    "tool_calls": ("request_id", "asked_at", "step_index", "requested_at", "tool", "needs_approval", "approval_until"),
    "tool_call_payloads": ("request_id", "asked_at", "step_index", "argument"),
    "approvals": (
        "request_id", "asked_at", "step_index", "event_id", "event_source", "given_at", "is_approved", "given_by", "why",
    ),
    "text_chunks": ("request_id", "asked_at", "digest", "chunk_index", "text"),
    "ballots": (
        "request_id", "asked_at", "step_index", "sample_index", "answer", "weight", "failure", "tokens_in", "tokens_out",
        "mean_logprob", "probability",
    ),
    "verdicts": (
        "request_id", "asked_at", "step_index", "decided_at", "outcome", "stop_reason", "answer", "confidence", "margin",
        "agreement", "entropy", "launched", "policy", "arm", "num_votes", "num_for_winner", "num_flips",
    ),
    "verdict_payloads": ("request_id", "asked_at", "step_index", "tally", "fields", "flips"),
    "answers": (
        "request_id", "asked_at", "answered_at", "failure", "outcome", "answer", "confidence", "margin", "strategy", "arm",
        "policy", "num_paths", "tokens_in", "tokens_out", "elapsed_ms", "answered_by", "log_partition", "log_offset",
        "ended_by",
    ),
    "answer_payloads": ("request_id", "asked_at", "message", "steps", "tally"),
    "feedback": (
        "request_id", "asked_at", "event_id", "given_at", "reward", "source", "event_source", "log_partition", "log_offset",
        "metric", "rater", "step_index", "sample_index", "rating", "scale", "supersedes", "is_withdrawn",
    ),
    "feedback_payloads": (
        "request_id", "asked_at", "event_id", "right_answer", "comment", "event_source", "about_answer", "chosen", "rejected",
    ),
}  # fmt: skip

# What belongs to no request, and is kept for ever: policies, once each by digest, what decomposers read of them, and what was
# done to experiments.
SHARED_TABLES: dict[str, tuple[str, ...]] = {
    "policies": ("digest", "name", "version", "recorded_at", "policy"),
    "policy_reads": ("event_id", "instance", "read_at", "recorded_at", "set_digest", "policies"),
    "experiment_changes": (
        "experiment", "revision", "event_id", "recorded_at", "change", "arm", "changed_at", "changed_by", "why", "digest",
        "event",
    ),
}  # fmt: skip

_MAX_INT = 2**31 - 1
_MAX_KEY_CHARS = 256  # of a text in a key: two of them, four bytes a character, fit into an index row
_NUL_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # after an even number of backslashes, or none, it is an escape

Days = tuple[date, date]
ALL_DAYS: Days = (date.min, date.max)


def rows_of(batch: Iterable[RecordedEvent], days: Days = ALL_DAYS) -> Rows:
    """The rows of a batch, by table. What is no fact of its own (carries, requests not yet under their key) has none.

    `days` are the first and the last that may have partitions. A request and a failure whose id is of another time lie under
    the day that they were recorded on.
    """
    rows: Rows = defaultdict(list)
    for each in batch:
        match each.event:
            case ReasoningRequested():
                _request(rows, each, each.event, days)
            case PlanMade():
                _plan(rows, each, each.event)
            case PathDecoded() | PathFailed():
                _path(rows, each, each.event)
            case ToolRequested() | ApprovalRequested():
                _call(rows, each, each.event)
            case ApprovalGiven():
                _approval(rows, each, each.event)
            case TextStored():
                _chunk(rows, each.event)
            case StepDecided():
                _verdict(rows, each.event)
            case AnswerReached():
                _answer(rows, each, each.event)
            case RequestFailed():
                _failure(rows, each, each.event, days)
            case FeedbackGiven():
                _feedback(rows, each, each.event)
            case ExperimentChanged():
                _experiment_change(rows, each, each.event)
            case PoliciesRead():
                _policies_read(rows, each, each.event)
            case _:
                pass
    return rows


@lru_cache(maxsize=4096)  # each of a request's events asks for it, some of them several times
def asked_at(request_id: str) -> datetime:
    """The time inside a request id, which decides the partition. Raises: OverflowError beyond the year 9999."""
    return moment(asked_at_ms(request_id))


def moment(timestamp_ms: int) -> datetime:
    """A time as PostgreSQL wants it; beyond the year 9999 it is cut to that."""
    return datetime.fromtimestamp(min(timestamp_ms, 253_402_300_799_000) / 1000, UTC)


def _request(rows: Rows, each: RecordedEvent, event: ReasoningRequested, days: Days) -> None:
    # The decomposer publishes a request without an id, or under another key, again under its own.
    if event.request_id is None or each.key != event.request_id:
        return
    key = (event.request_id, _asked_within(days, event.request_id, each))
    traceparent = _clean(each.traceparent)
    rows["requests"].append(
        (
            *key,
            moment(each.recorded_ms),
            _clean(event.policy),
            event.max_samples,
            event.deadline_s,
            traceparent,
            event.quality,
        )
    )
    rows["request_payloads"].append((*key, _clean(event.question), _json(event.tags)))


def _plan(rows: Rows, each: RecordedEvent, event: PlanMade) -> None:
    key = (event.request_id, asked_at(event.request_id))
    policy, recorded_at = event.policy, moment(each.recorded_ms)
    planned = (recorded_at, policy.strategy, event.arm, event.propensity, policy.name, len(event.steps))
    by = (_clean(policy.digest), event.weights_version)
    assigned: Row = (None, None, None, None)
    if event.assignment is not None:
        of = event.assignment
        assigned = (of.experiment, of.revision, _clean(of.unit), of.draw)
    shadow: Row = (None, None) if event.shadow is None else (event.shadow.request_id, event.shadow.experiment)
    segment = None if event.assignment is None else event.assignment.segment
    of_others = (
        event.recalled_from,
        *shadow,
        event.priority,
        None,
        segment,
    )  # None: erasing notes if a copy said the same
    rows["plans"].append((*key, *planned, moment(event.deadline_ms), *by, *assigned, *_place(each), *of_others))
    if event.fingerprint is not None:
        found_by = event.fingerprint
        rows["fingerprints"].append((*key, _clean(found_by.key), _clean(found_by.gist), _clean(found_by.tenant)))
    rows["plan_payloads"].append((*key, _json(event.reasons)))
    if policy.digest:  # plans of version 1 had none
        rows["policies"].append((_clean(policy.digest), policy.name, policy.version, recorded_at, _json(policy)))
    for step in event.steps:
        _step(rows, event.request_id, step)


def _step(rows: Rows, request_id: str, step: Step) -> None:
    """A step travels with its plan or, where it was added later, in the end of each of its samples."""
    key = (request_id, asked_at(request_id), step.index)
    if rows["steps"] and rows["steps"][-1][:3] == key:
        return  # paths of a step come together: one row a batch will do
    rows["steps"].append((*key, list(step.depends_on), step.ask, _clean(step.mark)))
    rows["step_payloads"].append((*key, _clean(step.fields.get("question")), _json(step.fields), _clean(step.why)))


def _path(rows: Rows, each: RecordedEvent, event: PathDecoded | PathFailed) -> None:
    context = event.context
    key = (context.request_id, asked_at(context.request_id), context.step_index, event.sample_index)
    _step(rows, context.request_id, context.step)
    by = (context.policy, context.arm)
    tokens = (_count(event.tokens_in), _count(event.tokens_out))
    reasoning = None
    before: tuple[str | None, str]
    sure: tuple[float | None, ...]
    is_declined = isinstance(event, PathDecoded) and event.is_declined
    waited_ms = event.waited_ms if isinstance(event, PathDecoded) else None
    cached = _count(event.tokens_cached) if isinstance(event, PathDecoded) else None
    whole: tuple[str | None, int | None] = (None, None)
    if isinstance(event, PathFailed):
        figures: Row = (event.failure.value, None, None, *tokens, None, None, None, None, event.total_ms, None, None)
        text, sure, before = event.message, (None,) * 5, (None, "[]")
    else:
        spent = (event.queued_ms, event.first_token_ms, event.total_ms)
        logprobs = (event.mean_logprob, event.min_logprob)
        said = (None, _clean(event.answer), event.finish_reason.value)
        figures = (*said, *tokens, *logprobs, *spent, _clean(event.model), _clean(event.engine))
        groups = (event.lowest_group_logprob, event.tail_logprob)
        sure = (event.probability, event.answer_logprob, *groups, event.load)
        text, before = event.text, (event.form, _json(event.turns))
        reasoning = _clean(event.reasoning) or None
        if event.long_text is not None:
            whole = (event.long_text.digest, event.long_text.num_chunks)
    way = (is_declined, waited_ms, min(_MAX_INT, event.num_handed_on), cached)
    rows["paths"].append((*key, moment(each.recorded_ms), event.launched, *figures, *by, *sure, *way))
    rows["path_payloads"].append((*key, _clean(text), *before, reasoning, *whole))


def _call(rows: Rows, each: RecordedEvent, event: ToolRequested | ApprovalRequested) -> None:
    """A call, as it was first asked for: one that needs a yes is asked for again once it has it."""
    context = event.context
    key = (context.request_id, asked_at(context.request_id), context.step_index)
    _step(rows, context.request_id, context.step)
    until = moment(event.until_ms) if isinstance(event, ApprovalRequested) else None
    rows["tool_calls"].append((*key, moment(each.recorded_ms), event.call.tool, until is not None, until))
    rows["tool_call_payloads"].append((*key, _clean(event.call.argument)))


def _approval(rows: Rows, each: RecordedEvent, event: ApprovalGiven) -> None:
    key = (
        event.request_id,
        asked_at(event.request_id),
        event.step_index,
        _key_text(each.event_id),
        _key_text(each.event_source),
    )
    said = (event.is_approved, _clean(event.given_by), _clean(event.why))
    rows["approvals"].append((*key, moment(each.recorded_ms), *said))


def _chunk(rows: Rows, event: TextStored) -> None:
    key = (event.request_id, asked_at(event.request_id), event.digest, event.chunk_index)
    rows["text_chunks"].append((*key, _clean(event.text)))


def _count(tokens: int | None) -> int | None:
    """A count as the column holds it."""
    return None if tokens is None else min(tokens, _MAX_INT)


def _verdict(rows: Rows, event: StepDecided) -> None:
    key = (event.request_id, asked_at(event.request_id), event.step_index)
    reached = (event.outcome.value, event.stop_reason, _clean(event.answer))
    clarity = (event.confidence, event.margin, event.agreement, event.entropy)
    votes = [(each.sample_index, _counted_for(event, each)) for each in event.ballots if each.failure is None]
    said = [(index, answer) for index, answer in votes if answer is not None]
    flipped = flips(said)
    counts = (len(said), sum(answer == event.answer for _, answer in said), len(flipped))
    rows["verdicts"].append(
        (*key, moment(event.decided_ms), *reached, *clarity, event.launched, event.policy, event.arm, *counts)
    )
    fields, changes = (_json(each) if each else None for each in (event.fields, flipped))
    rows["verdict_payloads"].append((*key, _json(event.tally), fields, changes))
    for ballot in event.ballots:
        failure = ballot.failure.value if ballot.failure else None
        tokens = (min(ballot.tokens_in, _MAX_INT), min(ballot.tokens_out, _MAX_INT))
        cast = (_clean(_counted_for(event, ballot)), ballot.weight, failure, *tokens)
        stated = (ballot.mean_logprob, ballot.probability)
        rows["ballots"].append((*key, ballot.sample_index, *cast, *stated))


def _counted_for(event: StepDecided, ballot: Ballot) -> str | None:
    """The answer of the tally that the ballot counts for, so that equal votes are equal text; the path keeps its own words."""
    row = ballot.tally_row
    return ballot.answer if row is None or row >= len(event.tally) else event.tally[row].answer


def _answer(rows: Rows, each: RecordedEvent, event: AnswerReached) -> None:
    key = (event.request_id, asked_at(event.request_id))
    reached = (None, event.outcome.value, _clean(event.answer), event.confidence, event.margin)
    by = (event.strategy, event.arm, event.policy)
    cost = (event.num_paths, event.tokens_in, event.tokens_out, event.elapsed_ms)
    rows["answers"].append(
        (*key, moment(each.recorded_ms), *reached, *by, *cost, event.answered_by, *_place(each), event.ended_by)
    )
    rows["answer_payloads"].append((*key, None, _json(event.steps), _json(event.tally)))


def _failure(rows: Rows, each: RecordedEvent, event: RequestFailed, days: Days) -> None:
    key = (event.request_id, _asked_within(days, event.request_id, each))
    cost = (event.num_paths, event.tokens_in, event.tokens_out, event.elapsed_ms)
    reached = (event.failure.value, None, None, None, None)
    rows["answers"].append(
        (*key, moment(each.recorded_ms), *reached, None, None, None, *cost, None, *_place(each), event.ended_by)
    )
    rows["answer_payloads"].append((*key, _clean(event.message), "[]", "[]"))


def _feedback(rows: Rows, each: RecordedEvent, event: FeedbackGiven) -> None:
    source = _key_text(each.event_source)
    key = (event.request_id, asked_at(event.request_id), _key_text(event.feedback_id or each.event_id))
    said = (moment(each.recorded_ms), event.worth, _clean(event.source), source)
    about = (event.metric, event.rater.value, event.step_index, event.sample_index)
    replaces = (None if event.supersedes is None else _key_text(event.supersedes), event.is_withdrawn)
    rows["feedback"].append((*key, *said, *_place(each), *about, event.rating, event.scale, *replaces))
    texts = (event.right_answer, event.comment, source, event.about_answer, event.chosen, event.rejected)
    rows["feedback_payloads"].append((*key, *map(_clean, texts)))


def _experiment_change(rows: Rows, each: RecordedEvent, event: ExperimentChanged) -> None:
    key = (event.experiment, event.revision, _key_text(each.event_id), moment(each.recorded_ms))
    done = (event.change.value, event.arm, moment(event.changed_ms), _clean(event.by), _clean(event.why))
    rows["experiment_changes"].append((*key, *done, _clean(event.definition.digest), _json(event)))


def _policies_read(rows: Rows, each: RecordedEvent, event: PoliciesRead) -> None:
    """What says the same of all policies has the same digest, wherever their files lie and whenever they were written."""
    said = "\n".join(sorted(f"{row.policy} {row.digest}" for row in event.policies))
    read = (_key_text(each.event_id), _clean(event.instance), moment(event.read_ms), moment(each.recorded_ms))
    rows["policy_reads"].append((*read, sha256(said.encode()).hexdigest(), _json(event.policies)))


def _place(each: RecordedEvent) -> tuple[int, int]:
    """Where in the log an event lay: what a version of the weights has seen is all below the recorder's offsets."""
    return each.partition, each.offset


def _asked_within(days: Days, request_id: str, each: RecordedEvent) -> datetime:
    """When a request was asked; for an id that claims a time without a partition, the start of the day of its record.

    The start, so that a request, its failure and what repeats them on that day meet under one key.
    """
    asked = asked_at(request_id)
    if days[0] <= asked.date() <= days[1]:
        return asked
    return datetime.combine(moment(each.recorded_ms).date(), time.min, UTC)


def _key_text(text: str) -> str:
    """A text as part of a key: a digest in place of a long one."""
    text = _clean(text) or ""
    return text if len(text) <= _MAX_KEY_CHARS else f"sha256:{sha256(text.encode()).hexdigest()}"


def _clean(text: str | None) -> str | None:
    """Text as PostgreSQL can hold it: no NUL, no lone surrogates."""
    if text is None or ("\0" not in text and text.isascii()):
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _json(value: object) -> str:
    """JSON as PostgreSQL can hold it: no escaped NUL. The six characters of that escape in a text are left as they are."""
    text = msgspec.json.encode(value).decode()
    return _NUL_ESCAPE.sub(r"\1\\ufffd", text) if "\\u0000" in text else text
