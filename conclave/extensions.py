"""Modules of an operator's own, which put rows into Conclave's tables: engines, tools, programs, rules, strategies.

`CONCLAVE_EXTENSIONS` names them, and every process imports them before it looks anything up.
"""

from collections.abc import Sequence
from importlib import import_module

from conclave.errors import Misconfigured, WrongSetting

SETTING = "CONCLAVE_EXTENSIONS"


def named_in(text: str) -> tuple[str, ...]:
    """The modules that a setting names, separated by commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def load_extensions(names: Sequence[str]) -> None:
    """Imports the modules, in this order. Raises: Misconfigured for those that can't be, and whatever they raise themselves."""
    wrong = []
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            wrong.append(WrongSetting(SETTING, "modules that can be imported, separated by commas", f"{name}: {error}"))
    if wrong:
        raise Misconfigured(wrong)
