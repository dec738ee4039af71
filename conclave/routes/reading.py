"""From a router's file, and that of its classifier, to their values, with everything in which they are not as they should be."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec.structs import replace

from conclave.domain.routing.difficulty import Classifier
from conclave.domain.routing.features import FEATURES, INTENTS
from conclave.domain.routing.rules import Router
from conclave.policies import PolicySet
from conclave.policies.tables import Problem, TableReader
from conclave.toml_files import table_in

_MAX_CLASSIFIER_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Read:
    """A router as it was read: its value and its classifier, what its file says it is for, and where the file is."""

    router: Router
    classifier: Classifier | None
    about: str
    path: Path


def read(path: Path, policies: PolicySet) -> tuple[Read | None, list[Problem]]:
    """The router in a file, None when there is none to be had, and what is wrong with it; its rules give out `policies`."""
    try:
        table = table_in(path)
    except (OSError, ValueError) as error:
        return None, [Problem(str(path), "", "a router in TOML", f"{error}"[:300])]
    reader = TableReader(str(path))
    about = reader.text(table.pop("about", ""), "about")
    for forbidden in ("name", "digest"):
        if forbidden in table:
            expected = "no such field: the file's name is the router's, its digest is computed"
            reader.add(forbidden, expected, table.pop(forbidden))
    values = reader.struct(Router, {**table, "name": path.stem}, "")
    if reader.problems:
        return None, reader.problems
    router = Router(**values)
    for field, expected, got in _unfit(router, policies):
        reader.add(field, expected, got)
    classifier = _classifier(router, path, reader) if router.classifier else None
    if reader.problems:
        return None, reader.problems
    return Read(replace(router, digest=_digest(router, classifier)), classifier, about, path), []


def read_classifier(path: Path) -> Classifier:
    """The classifier in a file. Raises: OSError; ValueError, saying what is wrong with it."""
    with path.open("rb") as file:
        content = file.read(_MAX_CLASSIFIER_BYTES + 1)
    if len(content) > _MAX_CLASSIFIER_BYTES:
        raise ValueError(f"more than {_MAX_CLASSIFIER_BYTES} bytes")
    return msgspec.json.decode(content, type=Classifier)  # its errors are ValueErrors


def _classifier(router: Router, path: Path, reader: TableReader) -> Classifier | None:
    if Path(router.classifier).name != router.classifier:
        reader.add("classifier", "a file beside the router's, by its name alone", router.classifier)
        return None
    try:
        return read_classifier(path.parent / router.classifier)
    except (OSError, ValueError) as error:
        reader.add("classifier", "a file that `conclave router train` has written", f"{error}"[:300])
        return None


def _digest(router: Router, classifier: Classifier | None) -> str:
    said = msgspec.json.encode((replace(router, digest=""), classifier), order="deterministic")
    return blake2b(said, digest_size=8).hexdigest()


def _unfit(router: Router, policies: PolicySet) -> Iterator[tuple[str, str, object]]:
    """What a router names and that is not there."""
    names = [rule.name for rule in router.rules]
    for place, rule in enumerate(router.rules):
        at = f"rules[{place}]"
        if names.index(rule.name) != place:
            yield f"{at}.name", "a name that no other rule has", rule.name
        if policies.find(rule.policy) is None:
            yield f"{at}.policy", f"one of {', '.join(policies.names)}", rule.policy
        yield from (each for name in rule.intents for each in _named(name, INTENTS, f"{at}.intents"))
        for field, bounds in (("at_least", rule.at_least), ("at_most", rule.at_most)):
            yield from (each for name in bounds for each in _named(name, FEATURES, f"{at}.{field}"))
        if rule.needs_difficulty and not router.classifier:
            yield "classifier", f"the file of the classifier that rule {rule.name} goes by", "nothing"
    for name in router.limits.cheap:
        if policies.find(name) is None:
            yield "limits.cheap", f"policies: {', '.join(policies.names)}", name


def _named(name: str, table: Collection[str], at: str) -> Iterator[tuple[str, str, object]]:
    if name not in table:
        yield at, f"one of {', '.join(table)}", name
