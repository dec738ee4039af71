"""Who does it: a process each, named in schemas.flow. Services never import each other."""

import sys

# structlog imports rich where it is installed, and pygments and attrs with it, for tracebacks that no service draws: a seventh
# of what a service's start takes. None in sys.modules makes that import fail, as it does where rich is not installed.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
