"""The record in memory, as pages read it: rows as the recorder would write them, joined as conclave.store.view joins them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from conclave.domain.experiments.evidence import Evidence
from conclave.domain.recorded import RecordedEvent
from conclave.store.bare import bared, request_ids
from conclave.store.figures import Bucket, Changed, EngineUse, Failure, Minute, PolicyFigures, Position, Reuse, Stage
from conclave.store.listing import Filter, Key
from conclave.store.reviews import Item
from conclave.store.rows import SHARED_TABLES, TABLES, rows_of
from conclave.store.trace import RequestLine, Story, Vote
from conclave.store.view import Page, Pulse, story_of
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.experiments import Arm, Change, Experiment, Mode, SegmentWeights

Row = dict[str, Any]
_JSON = ("tags", "reasons", "fields", "tally", "turns")


@dataclass
class MemoryView:
    """What `events` tell. Lists are not filtered: that is the database's business, and tested there."""

    events: Sequence[RecordedEvent]
    is_bare: bool = False  # of no request any word is kept
    tables: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        recorded = rows_of(self.events)
        for table, rows in (bared(recorded, request_ids(recorded)) if self.is_bare else recorded).items():
            for row in rows:
                named = dict(zip((TABLES | SHARED_TABLES)[table], row, strict=True))
                key = {
                    name: named.get(name) for name in ("request_id", "step_index", "sample_index", "event_id", "digest")
                }
                if not any(all(each.get(name) == key[name] for name in key) for each in self.tables[table]):
                    self.tables[table].append(
                        named | {name: json.loads(named[name]) for name in _JSON if isinstance(named.get(name), str)}
                    )

    async def requests(self, wanted: Filter, *, before: Key | None = None, limit: int = 50) -> Page:
        """The latest, whatever is wanted."""
        asked = sorted(self.tables["requests"], key=lambda row: row["asked_at"], reverse=True)
        lines = [self._line(row["request_id"]) for row in asked if before is None or row["asked_at"] < before.asked_at]
        return Page(tuple(lines[:limit]), len(lines) > limit)

    async def story(self, request_id: str) -> Story | None:
        """The story of a request."""
        if not self._of("requests", request_id):
            return None
        return story_of(self._line(request_id), self._rows(request_id))

    async def lines(self, keys: Sequence[Key]) -> tuple[RequestLine, ...]:
        """The lines of these requests."""
        return tuple(self._line(key.request_id) for key in keys)

    async def raw(self, request_id: str) -> Mapping[str, Any]:
        """Its rows."""
        return {"request": self._of("requests", request_id), "paths": self._of("paths", request_id)}

    async def pulse(self) -> Pulse:
        """Nothing moves here."""
        return Pulse(num_open=1, num_answered=2, median_ms=580.0, mean_paths=4.5)

    async def choices(self) -> Mapping[str, tuple[str, ...]]:
        """What there is."""
        return {
            "policy": tuple(sorted({row["policy"] for row in self.tables["answers"] if row["policy"]})),
            "arm": ("default",),
            "tenant": ("shop",),
        }

    def _of(self, table: str, request_id: str) -> list[Row]:
        return [row for row in self.tables[table] if row["request_id"] == request_id]

    def _one(self, table: str, request_id: str, **key: int | None) -> Row:
        rows = self._of(table, request_id)
        return next((row for row in rows if all(row[name] == value for name, value in key.items())), {})

    def _line(self, request_id: str) -> RequestLine:
        request, plan = self._one("requests", request_id), self._one("plans", request_id)
        answer = self._one("answers", request_id)
        verdict = self._one("verdicts", request_id, step_index=answer.get("answered_by")) if answer else {}
        values = {**dict.fromkeys(RequestLine.__dataclass_fields__), **plan, **request, **answer}
        values |= {
            "question": self._one("request_payloads", request_id)["question"],
            "agreement": verdict.get("agreement"),
        }
        values |= {"policy": answer.get("policy") or plan.get("policy"), "arm": answer.get("arm") or plan.get("arm")}
        values |= {
            "reward": next(
                (row["reward"] for row in self._of("feedback", request_id) if row["step_index"] is None), None
            )
        }
        ballots = [row for row in self._of("ballots", request_id) if row["step_index"] == answer.get("answered_by")]
        values["strip"] = "".join(_letter(row, answer.get("answer")) for row in ballots)
        return RequestLine(**{name: values[name] for name in RequestLine.__dataclass_fields__})

    def _rows(self, request_id: str) -> dict[str, list[Row]]:
        steps: list[Row] = []
        for step in sorted(self._of("steps", request_id), key=lambda row: int(row["step_index"])):
            index = step["step_index"]
            said = self._one("verdict_payloads", request_id, step_index=index)
            votes = {"tally": said.get("tally"), "field_votes": said.get("fields")}
            payload = self._one("step_payloads", request_id, step_index=index)
            steps.append(step | payload | self._one("verdicts", request_id, step_index=index) | votes)
        plan, reasons = self._one("plans", request_id), self._one("plan_payloads", request_id)
        policies = [row["policy"] for row in self.tables["policies"] if row["digest"] == plan.get("policy_digest")]
        was = {"policy_as_it_was": json.loads(policies[0])} if policies else {}
        return {
            "request": [self._one("requests", request_id) | self._one("request_payloads", request_id)],
            "answer": self._of("answer_payloads", request_id),
            "plan": [plan | reasons | was] if plan else [],
            "steps": steps,
            "num_paths": [{"num_paths": len(self._of("paths", request_id))}],
            "paths": [
                self._path(request_id, row)
                for row in sorted(
                    self._of("paths", request_id), key=lambda row: (row["step_index"], row["sample_index"])
                )
            ],
            "turns": self._turns(request_id),
            "feedback": [
                row | self._one("feedback_payloads", request_id) | {"is_latest": True}
                for row in sorted(self._of("feedback", request_id), key=lambda row: row["given_at"], reverse=True)
            ],
        }

    def _path(self, request_id: str, row: Row) -> Row:
        key = {"step_index": row["step_index"], "sample_index": row["sample_index"]}
        payload, ballot = self._one("path_payloads", request_id, **key), self._one("ballots", request_id, **key)
        joined = {"vote": ballot.get("answer"), "weight": ballot.get("weight"), "is_counted": bool(ballot)}
        text = payload["text"] or ""
        return row | joined | {"text": text, "num_chars": len(text), "reasoning": payload["reasoning"]}

    def _turns(self, request_id: str) -> list[Row]:
        return [
            {
                "step_index": row["step_index"], "sample_index": row["sample_index"], "form": turn["form"],
                "tool": turn.get("tool"), "text": turn["text"], "num_chars": len(turn["text"]), "answer": turn.get("answer"),
                "called": (turn.get("call") or {}).get("tool"), "argument": (turn.get("call") or {}).get("argument"),
                "tokens_out": turn.get("tokens_out"),
            }
            for row in self._of("path_payloads", request_id)
            for turn in row["turns"]
        ]  # fmt: skip


def _letter(ballot: Row, winner: str | None) -> str:
    if ballot["failure"] is not None:
        return Vote.FAILED.value
    if ballot["answer"] is None:
        return Vote.SILENT.value
    return Vote.WINNER.value if ballot["answer"] == winner else Vote.OTHER.value


class MemoryFigures:
    """Figures as the record could give them, the same each time: how they are computed is tested on a real server."""

    def __init__(self, view: MemoryView) -> None:
        self._view = view

    async def policies(self) -> tuple[PolicyFigures, ...]:
        """One that was given, one that was drawn, and one that nobody judged."""

        def made(
            policy: str, arm: str, reward: float | None, tokens_out: float, propensity: float | None
        ) -> PolicyFigures:
            return PolicyFigures(
                policy=policy, arm=arm, num_requests=400, num_answered=398, confidence=0.94, num_paths=6.5, tokens_out=tokens_out,
                p50_ms=810.0, p95_ms=2400.0, num_said=0 if reward is None else 60, reward=reward, propensity=propensity,
            )  # fmt: skip

        return (
            made("default", "default", 0.91, 310.0, None),
            made("sure", "sure", 0.94, 720.0, 0.5),
            made("fixed-8", "fixed-8", 0.9, 520.0, 0.5),
            made("escalate", "default", None, 60.0, None),
        )

    async def calibration(self) -> tuple[Bucket, ...]:
        """Confidence that is right on average."""
        return tuple(Bucket(num_said=20, confidence=share, reward=share - 0.05) for share in (0.55, 0.75, 0.95))

    async def contradicted(self) -> tuple[Key, ...]:
        """Every answer that was called wrong."""
        return tuple(
            Key(row["asked_at"], str(row["request_id"]))
            for row in self._view.tables["feedback"]
            if row["reward"] == 0.0
        )

    async def minutes(self) -> tuple[Minute, ...]:
        """Half an hour."""
        start = datetime(2026, 11, 26, 18, 0, tzinfo=UTC)
        return tuple(
            Minute(
                at=start - timedelta(minutes=ago), num_answered=40 + 7 * (ago % 5), num_failed=ago % 2,
                p50_ms=600.0 + 20 * ago, p95_ms=2000.0 + 40 * (ago % 7), p99_ms=4000.0,
            )
            for ago in range(30)
        )  # fmt: skip

    async def stages(self) -> tuple[Stage, ...]:
        """Two of them."""
        return (
            Stage(name="decoding", num=900, p50_ms=310.0, p95_ms=720.0, p99_ms=900.0),
            Stage(name="a request", num=0, p50_ms=None, p95_ms=None, p99_ms=None),
        )

    async def failures(self) -> tuple[Failure, ...]:
        """One way to fail."""
        return (Failure(what="path", failure="prompt_too_long", num=3),)

    async def engines(self) -> tuple[EngineUse, ...]:
        """One that says all, and one that says little."""
        return (
            EngineUse(
                engine="vllm", model="reasoner", num_paths=900, per_minute=15.0, num_in_flight=3.25, load=0.4, tokens_in=50_000,
                tokens_cached=40_000, cached_share=0.8, tokens_out=90_000, queued_p50_ms=12.0, queued_p95_ms=88.0,
            ),
            EngineUse(
                engine="openai", model="other", num_paths=3, per_minute=0.05, num_in_flight=0.01, load=None, tokens_in=None,
                tokens_cached=None, cached_share=None, tokens_out=None, queued_p50_ms=None, queued_p95_ms=None,
            ),
        )  # fmt: skip

    async def reuse(self) -> Reuse:
        """One in eight."""
        return Reuse(num_planned=80, num_recalled=10)

    async def positions(self) -> tuple[Position, ...]:
        """Two partitions of a topic."""
        return tuple(Position(topic="reasoning.paths", partition=each, next_offset=1200) for each in range(2))

    async def audit(self) -> tuple[Changed, ...]:
        """A key that was made, and a policy that was used."""
        at = datetime(2026, 11, 26, 12, tzinfo=UTC)
        made = Changed(
            at=at, kind="key", what="k of shop", action="create", actor="<b>ann</b>", why='{"scopes": ["ask"]}'
        )
        used = Changed(at=at, kind="policy", what="default@1", action="first used", actor=None, why="digest 0123")
        return made, used


class MemoryTrials:
    """One experiment that nobody has judged yet, whose second version of weights was tampered with."""

    def __init__(self, text: str = "to see which is right more often") -> None:
        arms = {"plain": Arm(policy="default"), "sure": Arm(policy="sure")}
        definition = Experiment(
            name="sure-or-plain",
            digest="d",
            arms=arms,
            control="plain",
            unit="user",
            mode=Mode.REGRET,
            segment_by="task",
        )
        self._changes = [
            ExperimentChanged(
                experiment="sure-or-plain", revision=1, change=Change.START, definition=definition, by=text[:200], why=text,
                changed_ms=1_795_470_000_000,
            )
        ]  # fmt: skip
        self._versions = [
            WeightsPublished(
                experiment="sure-or-plain", version=version, allocation={"plain": 1 - share, "sure": share}, revision=1,
                as_of_ms=1_795_470_000_000 + version * 60_000,
                segments={"sums": SegmentWeights(allocation={"plain": share, "sure": 1 - share}, since=version)},
            )
            for version, share in ((1, 0.5), (2, 0.6), (3, 0.7))
        ]  # fmt: skip

    async def changes(self, experiment: str = "") -> list[ExperimentChanged]:
        """That it was started."""
        return self._changes if experiment in ("", "sure-or-plain") else []

    async def versions(self, experiment: str) -> list[WeightsPublished]:
        """Three, none of which holds its digest."""
        return self._versions

    async def evidence(
        self,
        change: ExperimentChanged,
        *,
        since_ms: int,
        as_of_ms: int,
        watermark: Mapping[str, int] | None = None,
        after: WeightsPublished | None = None,
    ) -> tuple[Evidence, Mapping[str, int]]:
        """None yet."""
        return Evidence((), as_of_ms), {}


@dataclass
class MemoryDesk:
    """A queue of every answer in a view, for any number of reviewers, each of whom judges each answer once."""

    items: list[Item]
    in_hand: dict[str, Item] = field(default_factory=dict)
    done: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, view: MemoryView) -> "MemoryDesk":
        """All answers, as if they were contested."""
        rows = [row for row in view.tables["answers"] if row["answer"] is not None]
        questions = {row["request_id"]: row["question"] for row in view.tables["request_payloads"]}
        reasons, tally = ("disliked", "low margin"), (("42", 3), ("41", 2))
        return cls(
            [
                Item(
                    row["request_id"],
                    row["asked_at"],
                    questions[row["request_id"]],
                    row["answer"],
                    reasons,
                    1,
                    "p",
                    0.1,
                    tally,
                )
                for row in rows
            ]
        )

    async def open(self, *, since: datetime, num_reviewers: int, limit: int, num_latest: int) -> list[Item]:
        """All of it."""
        return self.items[:limit]

    async def claimed(self, reviewer: str) -> Item | None:
        """What was claimed."""
        return self.in_hand.get(reviewer)

    async def claim(self, reviewer: str, *, since: datetime, num_reviewers: int, lease_s: float) -> Item | None:
        """The first that this reviewer has not done."""
        left = (each for each in self.items if each.request_id not in self.done[reviewer])
        item = self.in_hand.get(reviewer) or next(left, None)
        if item is not None:
            self.in_hand[reviewer] = item
        return item

    async def judged(self, reviewer: str, request_id: str) -> None:
        """It is out of hand."""
        self.done[reviewer].append(request_id)
        self.in_hand.pop(reviewer, None)

    async def skipped(self, reviewer: str, request_id: str) -> None:
        """The same."""
        await self.judged(reviewer, request_id)

    async def judgements(self, since: datetime) -> list[list[bool]]:
        """Two of three pairs agree."""
        return [[True, True], [True, False], [False, False]]
