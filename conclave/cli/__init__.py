"""The command line: `conclave`. Each command lies in the module of its family; this one puts them together."""

import sys

import click

from conclave.cli import asking, operating, publishing, tracing
from conclave.errors import ConclaveError

_LOCAL = ("up", "down", "status")


class _Commands(click.Group):
    """The group whose embedded-stack commands are imported only when they are used."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, the stack's first."""
        return [*_LOCAL, *super().list_commands(context)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """One command; the stack's need the extra `local`."""
        if name not in _LOCAL:
            return super().get_command(context, name)
        from conclave.local import commands

        return {"up": commands.up, "down": commands.down, "status": commands.status}[name]


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="conclave", message="%(version)s")
def group() -> None:
    """Conclave: a stream of questions in, voted and traceable answers out."""


for command in (
    asking.ask,
    publishing.publish,
    tracing.trace,
    operating.topics,
    operating.check,
    operating.dead_letters,
):
    group.add_command(command)


def main() -> None:
    """Runs a command; what goes wrong on purpose is one line, and Ctrl-C is 130."""
    try:
        status = group.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ConclaveError as error:
        click.echo(f"conclave: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone: nothing to say, and nobody to say it to.
        sys.stderr.close()
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
