"""The command line: `conclave`. Each command lies in the module of its family; this table puts them together."""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from conclave.errors import ConclaveError, Misconfigured

# Name -> (module, command). A module is imported when its command is used, so that one does not wait for another's parts.
_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("conclave.local.commands", "up"),
    "down": ("conclave.local.commands", "down"),
    "status": ("conclave.local.commands", "status"),
    "ask": ("conclave.cli.asking", "ask"),
    "publish": ("conclave.cli.publishing", "publish"),
    "trace": ("conclave.cli.tracing", "trace"),
    "replay": ("conclave.cli.replaying", "replay"),
    "sample": ("conclave.cli.sampling", "sample"),
    "evidence": ("conclave.cli.evidence", "evidence"),
    "compare": ("conclave.cli.comparing", "compare"),
    "fork": ("conclave.cli.forking", "fork"),
    "policies": ("conclave.cli.policies", "policies"),
    "documents": ("conclave.cli.documents", "documents"),
    "approvals": ("conclave.cli.approving", "approvals"),
    "approve": ("conclave.cli.approving", "approve"),
    "deny": ("conclave.cli.approving", "deny"),
    "feedback": ("conclave.cli.feedback", "feedback"),
    "calibrate": ("conclave.cli.calibrating", "calibrate"),
    "report": ("conclave.cli.report.command", "report"),
    "export": ("conclave.cli.exporting", "export"),
    "review": ("conclave.cli.reviewing", "review"),
    "experiment": ("conclave.cli.experiments", "experiment"),
    "routes": ("conclave.cli.routes", "routes_group"),
    "router": ("conclave.cli.router", "router"),
    "effort": ("conclave.cli.effort", "effort"),
    "keys": ("conclave.cli.keys", "keys"),
    "mcp": ("conclave.cli.mcp", "mcp"),
    "erase": ("conclave.cli.erasing", "erase"),
    "topics": ("conclave.cli.operating", "topics"),
    "capacity": ("conclave.cli.capacity", "capacity"),
    "scaling": ("conclave.cli.scaling", "scaling"),
    "prepare": ("conclave.prepare", "prepare"),
    "acls": ("conclave.cli.acls", "acls"),
    "check": ("conclave.cli.operating", "check"),
    "dead-letters": ("conclave.cli.dead_letters", "dead_letters"),
}
_MISCONFIGURED = 2  # as of a service
_INTERRUPTED, _BROKEN_PIPE = 130, 141  # 128 + the signal's number, as shells have it


class _Commands(click.Group):
    """The group that imports a command when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, in the table's order."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One command; None for a name that is none."""
        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name]
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="conclave", message="%(version)s")
def group() -> None:
    """Conclave: a stream of questions in, voted and traceable answers out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process; what goes wrong on purpose is one line, and Ctrl-C is 130."""
    # A client that could not connect is said to be unclosed, there: our own line has told what a person can act on.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        status = group.main(args=arguments, prog_name="conclave", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ConclaveError as error:
        click.ClickException(str(error)).show()
        sys.exit(_MISCONFIGURED if isinstance(error, Misconfigured) else 1)
    except BrokenPipeError:
        # The reader of our output has gone: nothing to say, and nobody to say it to.
        sys.stderr.close()
        sys.exit(_BROKEN_PIPE)
    sys.exit(status if isinstance(status, int) else 0)
