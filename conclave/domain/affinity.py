"""Which samples should come to one decoder, as they share the KV cache of a prompt: the key that they are launched under. Pure.

Kafka puts records of one key into one partition, and a partition has one decoder. So a key is a promise that needs no state, and
survives every restart and rebalance. Decision 0053.
"""

from hashlib import blake2b

from conclave.domain.params import number
from conclave.domain.path_watch import PARAMS
from schemas.values import StepContext

# Each block of a step's samples prefills its prompt once: an eighth of a prompt a path, and large votes use several decoders.
SAMPLES_TOGETHER = 8


def conversation_key(tenant: str, conversation: str) -> str:
    """What a conversation is known by in events: no words of it, and no other tenant's."""
    return blake2b(f"{tenant}\0{conversation}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def affinity(context: StepContext, sample_index: int) -> str:
    """What a sample shares a decoder with: block after block of its conversation's samples, or of its step's ("": the first).

    All samples of a step come together whose paths are held against each other while they are decoded.
    """
    is_whole = number(context.ask.params, PARAMS, "confidence_keep") < 1.0
    block = 0 if is_whole else sample_index // SAMPLES_TOGETHER
    if context.conversation:
        return f"{context.conversation}/{block}"
    return f"{context.step_id}/{block}" if block else ""
