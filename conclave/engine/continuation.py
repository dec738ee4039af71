"""How servers of chat completions are asked to go on from what a path has said: each kind in its own words, some not at all.

A server that knows nothing of it would begin a new message, as if nothing had been said; so one of an unknown kind is not asked.
"""

from collections.abc import Collection, Mapping

from conclave.engine.protocol import CannotGoOn, DecodeRequest

# By the `owned_by` of the models that a server lists, what is added to a call.
CONTINUATIONS: Mapping[str, Mapping[str, bool]] = {
    "vllm": {"continue_final_message": True, "add_generation_prompt": False},
    "sglang": {"continue_final_message": True},
    "llamacpp": {},  # goes on from an assistant's last message by itself
}


def is_gone_on(request: DecodeRequest) -> bool:
    """True for a path that has said something already."""
    return request.messages[-1].role == "assistant"


def server_among(owners: Collection[str]) -> str:
    """The kind of server that lists models of these owners; "" when it is not known how it goes on."""
    return next((kind for kind in CONTINUATIONS if kind in owners), "")


def words(kind: str, request: DecodeRequest) -> dict[str, object]:
    """What is added to a call of a server of this kind. Raises: CannotGoOn."""
    if not is_gone_on(request):
        return {}
    if kind not in CONTINUATIONS:
        raise CannotGoOn(tuple(CONTINUATIONS))
    return {"extra_body": dict(CONTINUATIONS[kind])}
