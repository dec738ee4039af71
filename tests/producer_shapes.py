"""Shapes in which producers publish requests, and what each must give: one table for the tests of parts and of the whole.

Made after what serialisers and clients of several languages write and what public trackers report of them. K01 and its
like name the cases of the field collection that a shape was copied from.

In `value`, `key` and `headers`, <id> stands for a fresh request id, <ID> for its capitals, <id32> for it without dashes, <id -7.1d>
for an id that was made 7.1 days before it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.codec import Defect
from schemas.envelope import Headers
from schemas.ids import asked_at_ms, derived_request_id

Q = "What is 2 + 3?"


@dataclass(frozen=True)
class Answered:
    """The request is planned, as `fields` say; under <id> where `has_own_id`."""

    has_own_id: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


_DAYS = re.compile(rb"<id ([+-][0-9.]+)d>")


def _shifted(asked_ms: int, days: float) -> bytes:
    return derived_request_id(asked_ms + int(days * 86_400_000), "of another day").encode()


class Told(StrEnum):
    """Under which id a RequestFailed(invalid) goes out along with a dead letter."""

    NOBODY = "nobody"
    OWN = "under <id>"
    ITS_OWN = "under the id that it names"
    ANOTHER = "under an id made for it, with its key or CloudEvents id in the message"


@dataclass(frozen=True)
class Dead:
    """A dead letter that names `field`, and who is told."""

    field: str
    reason: Defect | str = Defect.SCHEMA
    told: Told = Told.NOBODY


@dataclass(frozen=True)
class Shape:
    """One record, and what becomes of it."""

    name: str
    value: bytes | None
    end: Answered | Dead
    key: bytes | None = None
    headers: Headers = ()
    compression: str | None = None

    def bytes_with(self, request_id: str) -> tuple[bytes | None, bytes | None, Headers]:
        """Key, value and headers for one request id."""

        def put(text: bytes | None) -> bytes | None:
            if text is None:
                return None
            asked_ms = asked_at_ms(request_id)
            for days in _DAYS.findall(text):
                text = text.replace(b"<id %sd>" % days, _shifted(asked_ms, float(days)))
            spellings = {"<id>": request_id, "<ID>": request_id.upper(), "<id32>": request_id.replace("-", "")}
            for token, spelled in spellings.items():
                for encoding in ("utf-8", "utf-16-le"):
                    text = text.replace(token.encode(encoding), spelled.encode(encoding))
            return text

        headers = tuple((name, put(each) or each) for name, each in self.headers)
        return put(self.key), put(self.value), headers


def _json(**fields: Any) -> bytes:
    return json.dumps({"question": Q, **fields}).encode()


def _event(data: Any = None, **attributes: Any) -> bytes:
    """A CloudEvent in structured mode."""
    event = {"specversion": "1.0", "id": "<id>", "source": "/shop/web", "type": "conclave.ReasoningRequested.v1"}
    return json.dumps({**event, "data": {"question": Q} if data is None else data, **attributes}).encode()


STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)
OK, OWN = Answered(), Answered(has_own_id=True)
NOT_JSON = Dead("$", Defect.UNDECODABLE)

# fmt: off
SHAPES: tuple[Shape, ...] = (
    # -- the least, and envelopes of Kafka
    Shape("a question and nothing else", _json(), OK),
    Shape("an id as key and field", _json(request_id="<id>"), OWN, b"<id>"),
    Shape("an id as field, no key", _json(request_id="<id>"), OWN),
    Shape("an id as field, another key", _json(request_id="<id>"), OWN, b"customer-17"),
    Shape("an id as field, its capitals as key", _json(request_id="<id>"), OWN, b"<ID>"),
    Shape("an empty key", _json(), OK, b""),
    Shape("a key that is not UTF-8", _json(), OK, b"\xff\xfe"),  # K11
    Shape("a key of 100 kB", _json(), OK, b"k" * 100_000),  # K11
    Shape("a key of sixteen raw bytes", _json(request_id="<id>"), OWN, bytes(range(16))),
    Shape("a key in JSON quotes", _json(request_id="<id>"), OWN, b'"<id>"'),
    *(Shape(f"a batch in {codec}", _json(), OK, compression=codec) for codec in ("gzip", "snappy", "lz4", "zstd")),  # K13
    Shape("all headers null", _json(), OK,
          headers=(("x", None), ("ce_id", None), ("ce_type", None), ("traceparent", None))),  # type: ignore[arg-type]  # K10
    Shape("a traceparent that is not UTF-8", _json(), OK, headers=(("traceparent", b"\xff"),)),  # K11
    Shape("a type twice", _json(), OK, headers=(("ce_type", b"conclave.ReasoningRequested.v1"),) * 2),  # K11
    Shape("a type that is not UTF-8", _json(), OK, headers=(("ce_type", b"\xff\xfe"),)),
    Shape("headers of others", _json(), OK, headers=(("__TypeId__", b"com.example.Ask"), ("spring_json_header_types", b"{}"))),
    Shape("content type with a charset", _json(), OK, headers=(("content-type", b"application/json; charset=UTF-8"),)),

    # -- nulls: what Java's, C#'s, Go's and Kotlin's serialisers write for what was not set
    Shape("every optional field null", _json(request_id=None, idempotency_key=None, policy=None, max_samples=None,
                                             deadline_s=None, tags=None), OK),
    Shape("tags null", _json(tags=None), Answered(fields={"tags": {}})),  # K03
    Shape("deadline null", _json(deadline_s=None), Answered(fields={"deadline_s": 600.0})),  # K03
    Shape("question null", _json(question=None), Dead("$.question")),
    Shape("a tag null", _json(tags={"k": None}), Dead("$.tags[...]")),
    Shape("the value null", b"null", Dead("$")),
    Shape("no value: a tombstone", None, Dead("$", Defect.UNDECODABLE, Told.ANOTHER), b"customer-17"),  # K09

    # -- numbers
    Shape("1.0 samples", b'{"question": "q", "max_samples": 1.0}', Answered(fields={"max_samples": 1})),  # K04
    Shape("1e1 samples", b'{"question": "q", "max_samples": 1e1}', Answered(fields={"max_samples": 10})),
    Shape("1.5 samples", _json(max_samples=1.5), Dead("$.max_samples")),
    Shape("samples as text", _json(max_samples="1", request_id="<id>"), Dead("$.max_samples", told=Told.OWN), b"<id>"),  # K01
    Shape("samples true", _json(max_samples=True), Dead("$.max_samples")),
    Shape("no samples", _json(max_samples=0), Dead("$.max_samples")),
    Shape("257 samples", _json(max_samples=257), Dead("$.max_samples")),
    Shape("10^30 samples", _json(max_samples=10**30), Dead("$.max_samples")),
    Shape("samples of 5,000 digits", b'{"question": "q", "max_samples": ' + b"9" * 5000 + b"}", Dead("$.max_samples")),
    Shape("1e999 samples", b'{"question": "q", "max_samples": 1e999}', Dead("$.max_samples")),  # K14
    Shape("a whole deadline", _json(deadline_s=30), Answered(fields={"deadline_s": 30.0})),
    Shape("a deadline in exponents", b'{"question": "q", "deadline_s": 6.0E+1}', Answered(fields={"deadline_s": 60.0})),
    Shape("a deadline as text", _json(deadline_s="30"), Dead("$.deadline_s")),
    Shape("a deadline of -1", _json(deadline_s=-1), Dead("$.deadline_s")),
    Shape("a deadline of -0.0", _json(deadline_s=-0.0), Dead("$.deadline_s")),
    Shape("a deadline NaN", b'{"question": "q", "deadline_s": NaN}', NOT_JSON),  # K14
    Shape("a deadline Infinity", b'{"question": "q", "deadline_s": Infinity}', NOT_JSON),  # K14
    Shape("a deadline of 1e999", b'{"question": "q", "deadline_s": 1e999}', Dead("$.deadline_s")),  # K14
    Shape("a number with a leading zero", b'{"question": "q", "max_samples": 01}', NOT_JSON),
    Shape("a hexadecimal number", b'{"question": "q", "max_samples": 0x10}', NOT_JSON),

    # -- UUIDs
    Shape("an id in capitals", _json(request_id="<ID>"), OWN, b"<ID>"),
    Shape("an id in braces", _json(request_id="{<id>}"), OWN, b"{<id>}"),
    Shape("an id without dashes", _json(request_id="<id32>"), OWN, b"<id32>"),
    Shape("an id in braces without dashes", _json(request_id="{<id32>}"), OWN),
    Shape("an id as a URN", _json(request_id="urn:uuid:<id>"), OWN, b"urn:uuid:<id>"),
    Shape("an id as a URN in capitals", _json(request_id="URN:UUID:<ID>"), OWN),
    Shape("an id with half its braces", _json(request_id="{<id>"), Dead("$.request_id")),
    Shape("an id with a line break", _json(request_id="<id>\n"), Dead("$.request_id", told=Told.OWN), b"<id>"),
    Shape("an id of version 4", _json(request_id="7d1f6c0e-3b0a-4c5e-9d55-2f6a1b0c4d5e"), Dead("$.request_id")),
    Shape("the nil id", _json(request_id="00000000-0000-0000-0000-000000000000"), Dead("$.request_id")),
    Shape("an id of no characters", _json(request_id=""), Dead("$.request_id")),
    Shape("a number as id", _json(request_id=17), Dead("$.request_id")),
    Shape("an id of 1970", _json(request_id="00000000-0000-7000-8000-000000000000"),
          Dead("$.request_id", "rejected", Told.ITS_OWN), b"00000000-0000-7000-8000-000000000000"),  # P08

    Shape("an id of 6.9 days ago", _json(request_id="<id -6.9d>"), OK, b"<id -6.9d>"),  # P08
    Shape("an id of 7.1 days ago", _json(request_id="<id -7.1d>"), Dead("$.request_id", "rejected", Told.ITS_OWN), b"<id -7.1d>"),
    Shape("an id of 0.9 days ahead", _json(request_id="<id +0.9d>"), OK, b"<id +0.9d>"),  # P08
    Shape("an id of 1.1 days ahead", _json(request_id="<id +1.1d>"), Dead("$.request_id", "rejected", Told.ITS_OWN), b"<id +1.1d>"),
    Shape("an id of 2500", _json(request_id="<id +173000d>"), Dead("$.request_id", "rejected", Told.ITS_OWN), b"<id +173000d>"),

    # -- idempotency keys
    Shape("an idempotency key", _json(idempotency_key="order 17"), OK, b"order 17"),
    Shape("an idempotency key and no key", _json(idempotency_key="order 18"), OK),
    Shape("an empty idempotency key", _json(idempotency_key=""), Dead("$.idempotency_key")),

    # -- tags
    Shape("tags of all kinds of scalar", _json(tags={"n": 17, "x": 0.5, "yes": True, "no": False, "s": "t"}),
          Answered(fields={"tags": {"n": "17", "x": "0.5", "yes": "true", "no": "false", "s": "t"}})),
    Shape("a tag of 19 digits", _json(tags={"n": 1234567890123456789}), Answered(fields={"tags": {"n": "1234567890123456789"}})),
    Shape("a tag of 300 digits", _json(tags={"n": 10**300}), Dead("$.tags[...]")),
    Shape("a tag with a list", _json(tags={"n": [1]}), Dead("$.tags[...]")),
    Shape("a tag with an object", _json(tags={"n": {"m": 1}}), Dead("$.tags[...]")),
    Shape("tags as a list", _json(tags=["a", "b"]), Dead("$.tags")),
    Shape("99 tags", _json(tags={f"k{i}": "v" for i in range(99)}), Dead("$.tags")),
    Shape("a tag with the characters of an escape", _json(tags={"note": r"the escape \u0000 in JSON"}),
          Answered(fields={"tags": {"note": r"the escape \u0000 in JSON"}})),  # P01
    Shape("a tag with a NUL", _json(tags={"note": "a\0b"}), Dead("$.tags[...]")),

    # -- encodings
    Shape("a byte-order mark", b"\xef\xbb\xbf" + _json(), OK),  # K06
    Shape("two byte-order marks", b"\xef\xbb\xbf" * 2 + _json(), NOT_JSON),
    Shape("UTF-16", json.dumps({"question": Q}).encode("utf-16"), NOT_JSON),  # K14
    Shape("UTF-16 without a mark", json.dumps({"question": Q}).encode("utf-16-le"), NOT_JSON),
    Shape("UTF-32", json.dumps({"question": Q}).encode("utf-32"), NOT_JSON),
    Shape("Latin-1", '{"question": "café?"}'.encode("latin-1"), NOT_JSON),  # K14
    Shape("UTF-8 as it is", '{"question": "Wie viele Äpfel? 🍎"}'.encode(), Answered(fields={"question": "Wie viele Äpfel? 🍎"})),
    Shape("UTF-8 escaped", b'{"question": "\\ud83c\\udf4e?"}', Answered(fields={"question": "🍎?"})),
    Shape("a lone surrogate", b'{"question": "\\ud800"}', NOT_JSON),  # K14
    Shape("a NUL in the question", b'{"question": "a\\u0000b"}', Dead("$.question")),
    Shape("a registry's magic byte", b"\x00\x00\x00\x00\x01" + _json(), NOT_JSON),  # K14
    Shape("Avro", b"\x00\x02\x1cWhat is 2 + 3?", NOT_JSON),
    Shape("white space around", b" \r\n\t" + _json() + b"\n", OK),
    Shape("a line break inside a text", b'{"question": "two\nlines"}', NOT_JSON),
    Shape("a comment", b'{"question": "q" /* why */}', NOT_JSON),
    Shape("a comma too many", b'{"question": "q",}', NOT_JSON),
    Shape("single quotes", b"{'question': 'q'}", NOT_JSON),
    Shape("two documents", _json() + _json(), NOT_JSON),

    # -- other JSON
    Shape("nothing", b"", NOT_JSON),
    Shape("half a document", b'{"question": "q', NOT_JSON),
    Shape("a text", b'"What is 2 + 3?"', Dead("$")),
    Shape("a list of requests", b"[" + _json() + b"]", Dead("$")),
    Shape("JSON inside a text", json.dumps(json.dumps({"question": Q})).encode(), Dead("$")),
    Shape("half a document with an id", b'{"request_id": "<id>", "question": "q', Dead("$", Defect.UNDECODABLE, Told.OWN)),
    Shape("an id in UTF-16", json.dumps({"question": Q, "request_id": "<id>"}).encode("utf-16"),
          Dead("$", Defect.UNDECODABLE, Told.OWN)),
    Shape("half a document under an id", b'{"question": "q', Dead("$", Defect.UNDECODABLE, Told.OWN), b"<id>"),
    Shape("half a document under an id in JSON quotes", b'{"question": "q', Dead("$", Defect.UNDECODABLE, Told.OWN), b'"<ID>"'),
    Shape("half a document under another key", b'{"question": "q', Dead("$", Defect.UNDECODABLE, Told.ANOTHER), b"order 17"),
    Shape("no question, with CloudEvents source and id", b"{}", Dead("$.question", told=Told.ANOTHER),
          headers=(("ce_id", b"1"), ("ce_source", b"/shop/web"))),
    Shape("no question, with a subject", b"{}", Dead("$.question", told=Told.OWN), headers=(("ce_subject", b"<id>"),)),
    Shape("no question, with the id as CloudEvents id", b"{}", Dead("$.question", told=Told.OWN), headers=(("ce_id", b"<ID>"),)),
    Shape("100,000 nested lists", b'{"question": ' + b"[" * 100_000, NOT_JSON),  # K14
    Shape("a registry's wrapper", json.dumps({"schema": {}, "payload": {"question": Q}}).encode(), Dead("$.schema")),  # K08
    Shape("a mistyped field", _json(polcy="default"), Dead("$.polcy")),
    Shape("a field in another case", b'{"Question": "q"}', Dead("$.Question")),
    Shape("a question of 20,000 characters", _json(question="q" * 20_000), Dead("$.question")),
    Shape("a question of 1 MB", _json(question="q" * 1_000_000), Dead("$.question")),  # K14
    Shape("a question of white space", _json(question=" \t\n"), Dead("$.question")),
    Shape("a question of no width", _json(question="\u200b\u2060\ufeff"), Dead("$.question")),  # K15
    Shape("a question of fillers", _json(question="\u3164\u2800\u115f\u00ad\ufe0f"), Dead("$.question")),
    Shape("a question with joiners", _json(question="👩\u200d🍳?"), OK),
    Shape("an unknown policy", _json(policy="clever", request_id="<id>"), Dead("$.policy", "rejected", told=Told.OWN), b"<id>"),
    Shape("a policy in capitals", _json(policy="DEFAULT", request_id="<id>"), Dead("$.policy", "rejected", told=Told.OWN), b"<id>"),

    # -- a key twice
    Shape("the question twice", b'{"question": "a", "question": "b"}', Dead("$.question")),
    Shape("samples 1 and then 256", b'{"question": "q", "max_samples": 1, "max_samples": 256}', Dead("$.max_samples")),
    Shape("a field twice, the same", b'{"question": "q", "policy": "default", "policy": "default"}', Dead("$.policy")),
    Shape("a field twice, once escaped", b'{"question": "q", "max_samples": 1, "max_s\\u0061mples": 256}', Dead("$.max_samples")),
    Shape("a tag twice", b'{"question": "q", "tags": {"a": "1", "b": "2", "a": "3"}}', Dead("$.tags.a")),
    Shape("a field null and then set", b'{"question": "q", "max_samples": null, "max_samples": 2}', Dead("$.max_samples")),

    # -- CloudEvents, binary mode
    Shape("binary mode, all attributes", _json(request_id="<id>"), OWN, b"<id>",
          (("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/shop/web"), ("ce_subject", b"order 17"),
           ("ce_type", b"conclave.ReasoningRequested.v1"), ("ce_time", b"2026-01-01T00:00:00Z"),
           ("content-type", b"application/json"))),
    Shape("binary mode, source and id for an id", _json(), OK, headers=(("ce_id", b"<id>"), ("ce_source", b"/shop/binary"))),
    Shape("binary mode, id alone", _json(), OK, headers=(("ce_id", b"1"),)),
    Shape("binary mode, an id of 8,000 characters", _json(), OK, headers=(("ce_id", b"x" * 8000), ("ce_source", b"/shop"))),
    Shape("binary mode, another's type", _json(), Dead("ce_type", Defect.UNKNOWN_TYPE),
          headers=(("ce_type", b"com.example.Other"),)),
    Shape("binary mode, a version to come", _json(), Dead("ce_type", Defect.UNSUPPORTED_VERSION),
          headers=(("ce_type", b"conclave.ReasoningRequested.v99"),)),
    Shape("binary mode, an event of another topic", _json(), Dead("ce_type", Defect.UNKNOWN_TYPE),
          headers=(("ce_type", b"conclave.PathDecoded.v1"),)),

    # -- CloudEvents, structured mode
    Shape("structured mode", _event(), OK, headers=STRUCTURED),  # K07
    Shape("structured mode with a charset", _event(), OK,
          headers=(("content-type", b"application/cloudevents+json; charset=utf-8"),)),
    Shape("structured mode, content type in capitals", _event(), OK,
          headers=(("Content-Type", b"Application/CloudEvents+JSON"),)),
    Shape("structured mode without a content type", _event(), OK),
    Shape("structured mode, a byte-order mark", b"\xef\xbb\xbf" + _event(), OK, headers=STRUCTURED),
    Shape("structured mode, data in base64", _event(data_base64="eyJxdWVzdGlvbiI6ICJxIn0=") .replace(
        b'"data": {"question": "What is 2 + 3?"}, ', b""), Answered(fields={"question": "q"}), headers=STRUCTURED),
    Shape("structured mode, an id inside", _event({"question": Q, "request_id": "<ID>"}), OWN, b"<id>", STRUCTURED),
    Shape("structured mode, null attributes", _event(subject=None, time=None, data_base64=None), OK, headers=STRUCTURED),
    Shape("structured mode, extensions", _event(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01", partitionkey="17",
                                                weight=3, datacontenttype="application/json"), OK, headers=STRUCTURED),
    Shape("structured mode, nulls and 1.0 inside", _event({"question": Q, "max_samples": 2.0, "tags": None}),
          Answered(fields={"max_samples": 2}), headers=STRUCTURED),
    Shape("structured mode, samples as text", _event({"question": Q, "max_samples": "1", "request_id": "<id>"}),
          Dead("$.data.max_samples", told=Told.OWN), b"<id>", STRUCTURED),
    Shape("structured mode, a field twice inside", _event().replace(b'"question"', b'"question": "a", "question"', 1),
          Dead("$.data.question", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, an attribute twice", _event().replace(b'"id"', b'"id": "1", "id"', 1), Dead("$.id", told=Told.OWN),
          headers=STRUCTURED),
    Shape("structured mode, no data", _event().replace(b'"data"', b'"datum"'), Dead("$.data", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, data and base64", _event(data_base64="e30="), Dead("$.data_base64", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, no base64", _event(data_base64="%%").replace(b'"data"', b'"datum"'),
          Dead("$.data_base64", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, data as text", _event(json.dumps({"question": Q})), Dead("$.data", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, data in XML", _event("<q/>", datacontenttype="application/xml"),
          Dead("$.datacontenttype", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, version 0.3", _event(specversion="0.3"), Dead("$.specversion", told=Told.OWN), headers=STRUCTURED),
    Shape("structured mode, no version", _json(), Dead("$.specversion"), headers=STRUCTURED),
    Shape("structured mode, a number as id", _event(id=17), Dead("$.id"), headers=STRUCTURED),
    Shape("structured mode, another's type", _event(type="com.example.Other"), Dead("$.type", Defect.UNKNOWN_TYPE, told=Told.OWN),
          headers=STRUCTURED),
    Shape("structured mode, a list", b"[" + _event() + b"]", Dead("$"), headers=STRUCTURED),
    Shape("a batch of CloudEvents", b"[" + _event() + b"]", Dead("$"),
          headers=(("content-type", b"application/cloudevents-batch+json"),)),
    Shape("structured mode, half a document", _event()[:-9], NOT_JSON, headers=STRUCTURED),
)
# fmt: on
