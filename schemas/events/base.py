"""What all events are."""

from typing import ClassVar

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True):
    """What all events are. An event is a class here, and a row of `schemas.flow.TOPICS` that says where it lies.

    VERSION is its major version: a breaking change to a released one raises it, with a row in schemas.upcasts. The record's
    key is the attribute that its topic's row names: `request_id`, `step_id`, `decoder_key` or `experiment`.
    """

    VERSION: ClassVar[int] = 1
