"""A conversation as one question, and progress in words. Pure."""

from collections.abc import Sequence

from conclave.store.happenings import Happening
from schemas.values import MAX_QUESTION_CHARS, is_blank
from services.gateway.bodies import Message
from services.gateway.errors import ApiError

_INSTRUCTIONS = ("system", "developer")
_SPEAKERS = {"user": "User", "assistant": "Assistant"}


def question_of(messages: Sequence[Message]) -> str:
    """What the conversation asks.

    One message of a user is the question as it stands. Instructions come before it. Of several turns each says whose it
    is, and the last is the one to answer. Raises: ApiError.
    """
    turns = [message for message in messages if message.role not in _INSTRUCTIONS]
    if not turns or turns[-1].role != "user" or is_blank(turns[-1].text):
        raise ApiError(400, "the last message must be a user's, and say something", "invalid_value", "messages")
    parts = [message.text for message in messages if message.role in _INSTRUCTIONS and message.text]
    if len(turns) == 1:
        parts.append(turns[0].text)
    else:
        parts += [f"{_SPEAKERS[turn.role]}: {turn.text}" for turn in turns]
    question = "\n\n".join(parts)
    if len(question) > MAX_QUESTION_CHARS:
        message = f"the messages have {len(question):,} characters together; {MAX_QUESTION_CHARS:,} are taken at most"
        raise ApiError(400, message, "context_length_exceeded", "messages")
    if "\0" in question:
        raise ApiError(400, "a NUL is no text", "invalid_value", "messages")
    return question


def beginning_of(messages: Sequence[Message]) -> str:
    """What all turns of the conversation begin with: its instructions, and what its user said first."""
    users = [number for number, message in enumerate(messages) if message.role == "user"]
    return "\n\n".join(message.text for message in messages[: users[0] + 1 if users else 0])


def in_words(happening: Happening) -> str:
    """A line that tells a person what happened."""
    data = happening.data
    match happening.kind:
        case "planned":
            return f"policy {data['policy']}, strategy {data['strategy']}\n"
        case "path":
            said = data["answer"] if data["failure"] is None else f"failed: {data['failure']}"
            return f"step {data['step_index']}, path {data['sample_index']}: {'no answer' if said is None else said}\n"
        case "decided":
            answer = "no answer" if data["answer"] is None else data["answer"]
            return f"step {data['step_index']} decided: {answer} (confidence {data['confidence']:.2f})\n"
        case _:
            return ""
