"""`python -m schemas write | check | release`: the generated documents, and the promise that no change breaks a reader.

write    generates schemas/json/ and the diagram in docs/architecture.md
check    exit status 1 when one of them is stale, when an event changed so that a reader of schemas/released/ breaks,
         or when a released version can no longer be read
release  freezes the current schemas as those that readers rely on: schemas/released/v<version>/<Event>.json. The bytes
         beside them (.jsonl) are what readers of later versions are proved on: `python -m tests.recorded`
"""

import json
import re
import sys
from pathlib import Path

from schemas import codec, documents, flow
from schemas.compatibility import breaks
from schemas.events import Event
from schemas.upcasts import way_from

_FOLDER = Path(__file__).parent
_JSON, _RELEASED = _FOLDER / "json", _FOLDER / "released"
_ARCHITECTURE = _FOLDER.parent / "docs" / "architecture.md"
_DIAGRAM = re.compile(r"(<!-- flow: made by `python -m schemas write` -->\n).*?(<!-- end of flow -->)", re.DOTALL)


def main(arguments: list[str]) -> int:
    """The exit status of the command."""
    match arguments:
        case ["write"]:
            for path, text in generated().items():
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            return 0
        case ["check"]:
            problems = [*stale(), *broken()]
            for problem in problems:
                sys.stderr.write(problem + "\n")
            return 1 if problems else 0
        case ["release"]:
            return _release()
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


def generated() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    files = {_JSON / f"{name}.json": _dump(documents.json_schema(event)) for name, event in codec.EVENT_TYPES.items()}
    for name, event in codec.EVENT_TYPES.items():
        if codec.is_producer_facing(event):
            files[_JSON / f"{name}.cloudevent.json"] = _dump(documents.structured_schema(event))
    files[_JSON / "asyncapi.json"] = _dump(documents.asyncapi("1"))
    if _ARCHITECTURE.exists():
        block = f"\\1```mermaid\n{documents.diagram()}\n```\n\\2".replace("\\n", "\n")
        files[_ARCHITECTURE] = _DIAGRAM.sub(block, _ARCHITECTURE.read_text())
    return files


def stale() -> list[str]:
    """A line for each generated file that is missing, outdated or left over."""
    wanted = generated()
    problems = [
        f"{path.relative_to(_FOLDER.parent)} is stale: run `python -m schemas write`"
        for path, text in wanted.items()
        if not path.exists() or path.read_text() != text
    ]
    leftover = sorted(set(_JSON.glob("*.json")) - set(wanted))
    return problems + [f"{path.relative_to(_FOLDER.parent)} belongs to no event: remove it" for path in leftover]


def broken() -> list[str]:
    """A line for each way in which the events break a reader of a released schema, or can no longer be read.

    An event whose major version was raised (its VERSION) is a new event: its readers know it by its type. The
    versions before stay readable (schemas.upcasts), each line that was recorded of them.
    """
    return [
        problem
        for path in sorted(_RELEASED.glob("v*/*.json"))
        for problem in (*_broken_schema(path), *_unreadable_lines(path.with_suffix(".jsonl")))
    ]


def _broken_schema(path: Path) -> list[str]:
    version, event = _released(path)
    if event is None:
        return [f"{path.stem}: version {version} lies in logs still, and no row of schemas/upcasts.py leads on from it"]
    if codec.version_of(event) != version or event.__name__ != path.stem:
        return []
    is_facing = codec.is_producer_facing(event)
    found = breaks(json.loads(path.read_text()), documents.json_schema(event), is_producer_facing=is_facing)
    return [f"{path.stem}: {each} (raise its VERSION in schemas/events/)" for each in found]


def _unreadable_lines(path: Path) -> list[str]:
    version, event = _released(path)
    if event is None or not path.exists():
        return []
    problems = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            codec.decode(flow.topic_of(event), f"conclave.{path.stem}.v{version}", line)
        except codec.UnreadableEvent as error:
            problems.append(f"{path.relative_to(_FOLDER.parent)}:{number}: {error}")
    return problems


def _released(path: Path) -> tuple[int, type[Event] | None]:
    """The version that a released file is of, and the event that it is read as; None when it no longer is."""
    version = int(path.parent.name.removeprefix("v"))
    way = way_from(path.stem, version)
    event = codec.EVENT_TYPES.get(way.event)
    return version, event if event is not None and codec.version_of(event) == way.version else None


def _release() -> int:
    if problems := broken():
        sys.stderr.write("\n".join([*problems, "nothing released"]) + "\n")
        return 1
    for name, event in codec.EVENT_TYPES.items():
        path = _RELEASED / f"v{codec.version_of(event)}" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_dump(documents.json_schema(event)))
    return 0


def _dump(document: object) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
