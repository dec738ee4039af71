"""Runs a service's module as `python -m` does, but once it is told its settings: what it imports need not wait for servers.

    python -m conclave.local.held DESCRIPTOR MODULE

The descriptor is the end of a pipe that brings the settings, a JSON object of environment variables. Where the pipe closes with
nothing in it, whoever wanted the service is gone.
"""

import os
import runpy
import sys
from collections.abc import Mapping
from importlib import import_module

import msgspec

_OURS = "services."  # an operator's own service may do anything when it is imported: that waits for its settings


def main(arguments: list[str]) -> None:
    """Runs the module once its settings have come; returns when none come any more.

    1. Import what the module imports.
    2. Wait for the settings.
    3. Run the module anew, as `python -m` would: its own few lines twice, what it imports once.
    """
    descriptor, module = int(arguments[0]), arguments[1]
    if module.startswith(_OURS):
        import_module(f"{module}.__main__")  # 1
    with open(descriptor, "rb") as pipe:
        settings = pipe.read()  # 2
    if not settings:
        return
    os.environ.update(msgspec.json.decode(settings, type=dict[str, str]))
    sys.modules.pop(f"{module}.__main__", None)
    del sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)  # 3


def told(settings: Mapping[str, str]) -> bytes:
    """What is written into the pipe."""
    return msgspec.json.encode(settings)


if __name__ == "__main__":
    main(sys.argv[1:])
