"""`python -m schemas write | check | release`: the generated documents, and the promise that no change breaks a reader.

write    generates schemas/json/ and the diagram in docs/architecture.md
check    exit status 1 when one of them is stale, or an event changed so that a reader of schemas/released/ breaks
release  freezes the current schemas as those that readers rely on
"""

import json
import re
import sys
from pathlib import Path

from schemas import codec, documents
from schemas.compatibility import breaks

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
    """A line for each way in which an event breaks a reader of the released schemas.

    An event whose major version was raised (schemas.codec.VERSIONS) is a new event: its readers know it by its type.
    """
    problems = []
    for path in sorted(_RELEASED.glob("*.json")):
        old = json.loads(path.read_text())
        event = codec.EVENT_TYPES.get(path.stem)
        if event is None:
            problems.append(f"{path.stem}: the event was removed, and lies in logs still")
        elif old["title"] == codec.versioned_type(event):
            is_facing = documents.is_producer_facing(event)
            found = breaks(old, documents.json_schema(event), is_producer_facing=is_facing)
            problems += [f"{path.stem}: {each} (raise its version in schemas/codec.py)" for each in found]
    return problems


def _release() -> int:
    if problems := broken():
        sys.stderr.write("\n".join([*problems, "nothing released"]) + "\n")
        return 1
    _RELEASED.mkdir(exist_ok=True)
    for name, event in codec.EVENT_TYPES.items():
        (_RELEASED / f"{name}.json").write_text(_dump(documents.json_schema(event)))
    return 0


def _dump(document: object) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
