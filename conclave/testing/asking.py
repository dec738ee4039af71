"""What people say in a simulated schedule: requests, words on them while they are thought about, letters tried again."""

import asyncio

import msgspec

from conclave.runtime import dead_letters
from conclave.testing.network import LATENCY_S
from conclave.testing.stage import SETTLE_S, Stage
from schemas import flow
from schemas.events import ApprovalGiven, Event, ReasoningRequested, RequestCancelled
from schemas.flow import Topic
from schemas.ids import derived_request_id

_POLICIES = (
    "default", "single", "early-stopping", "ahead-3", "contemplation", "escalate", "least-to-most", "self-ask", "tree",
    "tree-checked", "tree-sampled", "select", "rounds", "reflexion", "tool", "quick",
)  # fmt: skip
# Drawn apart: a strategy whose last step writes an answer, and programs that say how sure they are, or their answer as JSON.
_FURTHER_POLICIES, _FURTHER_SHARE = ("synthesise", "sure", "instruct"), 0.15
_SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "integer"}, "unit": {"enum": ["apples", "pears"]}},
    "required": ["number"],
    "additionalProperties": False,
}
_CALLING_POLICIES = ("simulated-call", "simulated-keyed-call", "simulated-approval")
POLICIES = (*_POLICIES, *_FURTHER_POLICIES, *_CALLING_POLICIES)  # by which requests may be asked
_CANCELLED_SHARE = 0.05  # of the requests
_WITHOUT_DATABASE_S = 5.0  # how long the others may take to settle while the recorder cannot


async def ask(stage: Stage, number: int, delay_s: float, tasks: asyncio.TaskGroup) -> None:
    """Publishes a request: mostly as it should be, some twice, some without an id, some that nobody can take."""
    await asyncio.sleep(delay_s)
    rng, now_ms = stage.rng, stage.cluster.now_ms
    match rng.randrange(10):
        case 0:
            stage.publish_broken(Topic.REQUESTS if rng.random() < 0.5 else rng.choice(stage.readable), number)
        case 1 if not stage.expected.is_unsteady:
            question = f"And without an id, {number}?"
            stage.expected.questions.add(question)
            value = msgspec.json.encode({"question": question, "max_samples": 2})
            stage.publish_bytes(value, key=None, event_id=f"p{number}")
        case kind:
            policy = _policy(stage, rng.choice(_POLICIES))
            request = ReasoningRequested(
                question=f"How much is {number}?",
                request_id=derived_request_id(now_ms, str(number), str(stage.report.seed)),
                policy=policy,
                max_samples=rng.randint(1, 6),
                deadline_s=rng.choice((5.0, 600.0, 600.0)),
                priority=stage.hurries.choice((None, None, "interactive", "batch")),
                answer_schema=_SCHEMA if policy == "instruct" else None,
                tags=stage.talks.choice(({}, {"conversation": "it"}, {"conversation": "it", "tenant": "a"})),
            )
            stage.expected.requests.add(str(request.request_id))
            stage.publish(request, f"p{number}")
            for word in _words(stage, str(request.request_id), now_ms + round(1000 * request.deadline_s)):
                tasks.create_task(_say(stage, word))
            if kind < 5:
                await asyncio.sleep(rng.random())
                stage.publish(request, f"p{number}again")


def _policy(stage: Stage, shipped: str) -> str:
    """The one that ships, or at times a further one; one that calls a tool with an effect in half the requests of a schedule that
    has such tools."""
    further = stage.ways.choice(_FURTHER_POLICIES) if stage.ways.random() < _FURTHER_SHARE else None
    if stage.calls_tools and stage.calls.random() < 0.5:
        return stage.calls.choice(_CALLING_POLICIES)
    return further or shipped


def _words(stage: Stage, request_id: str, until_ms: int) -> list[Event]:
    """What people say of a request while it is thought about: that it is cancelled; yes and no to a call, and maybe both."""
    words: list[Event] = []
    if stage.calls.random() < _CANCELLED_SHARE:
        words.append(RequestCancelled(request_id=request_id, until_ms=until_ms))
    for _ in range(stage.calls.choice((0, 1, 1, 2)) if stage.calls_tools else 0):
        is_approved = stage.calls.random() < 0.7
        words.append(
            ApprovalGiven(
                request_id=request_id, step_index=0, is_approved=is_approved, given_by="ann", until_ms=until_ms
            )
        )
    return words


async def _say(stage: Stage, word: Event) -> None:
    await asyncio.sleep(3.0 * stage.calls.random())
    stage.num_words += 1
    stage.publish(word, f"word{stage.num_words}")


async def ask_again(stage: Stage) -> None:
    """Publishes what is known by now, in other words, by two at once; the database may be away or slow meanwhile."""
    recalls, now_ms = stage.recalls, stage.cluster.now_ms
    stage.database.network.is_away = recalls.random() < 0.1
    stage.database.network.latency_s = recalls.choice((LATENCY_S, LATENCY_S, 0.2))
    for number in range(6):
        request = ReasoningRequested(
            question=f"{recalls.choice(('', 'Please tell me: '))}how much is {recalls.choice('112')} + 1?",
            request_id=derived_request_id(now_ms, f"again {number}", str(stage.report.seed)),
            policy=recalls.choice(("default", "default", "contemplation", None)),
            tags={"tenant": recalls.choice("aaab")},
            max_age_s=recalls.choice((None, None, None, 0.0, 600.0)),
        )
        stage.expected.requests.add(str(request.request_id))
        stage.publish(request, f"again{number}")
        if number % 2:
            await stage.settle(_WITHOUT_DATABASE_S if stage.database.network.is_away else SETTLE_S)
    stage.database.network.is_away, stage.database.network.latency_s = False, LATENCY_S
    await stage.settle()


async def replay_letters(stage: Stage) -> None:
    """An operator has what could not be read tried once more: it comes back as another dead letter."""
    for topic in stage.readable:
        if topic is Topic.REQUESTS:
            continue  # tried again it is a request of its own, which ends once more
        for number, record in enumerate(stage.cluster.records(flow.dead_letter_topic(topic.value))):
            letter = dead_letters.read(record)
            if letter.value not in stage.expected.broken.get(topic.value, ()):
                continue
            stage.cluster.publish([dead_letters.replay(letter, f"token {number}")])
    await stage.settle()
