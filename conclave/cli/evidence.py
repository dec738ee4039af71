"""`conclave evidence`: what paths' own figures are worth, fitted to recordings, as a policy's parameters."""

import json
from pathlib import Path

import click

from conclave.cli import recordings
from conclave.domain.vote_learning.path_evidence import fitted

_DECIMALS = 3


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--equivalence", default="short_answer", show_default=True, help="Which answers are the same vote.")
def evidence(files: tuple[Path, ...], *, equivalence: str) -> int:
    """Fit what a path's log probabilities and length say of its answer, and print it as parameters for a policy.

    FILE is as `conclave sample` writes it, with right answers and log probabilities. Judge what it prints on another
    file by `conclave replay`: on this one it looks better than it is.
    """
    try:
        found = fitted([each for path in files for each in recordings.read(path)], equivalence)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"# Fitted to {found.num_questions} questions by conclave evidence: mean log loss of the right answer")
    click.echo(f"# {found.log_loss:.3f} nats, and {found.log_loss_of_counts:.3f} with all votes alike.")
    click.echo('stopping = "log_odds"\nweighing = "log_linear"\nconfidence = "odds"')
    params = {name: round(value, _DECIMALS) for name, value in found.params.items()}
    click.echo(f"params = {{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in params.items())} }}")
    return 0
