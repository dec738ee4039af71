"""`conclave capacity`: what a stack would carry, and how long answers would take, by a model of what its parts cost."""

import sys
from functools import partial
from pathlib import Path

import click
import msgspec

from conclave.cli.amounts import Amount, positive
from conclave.domain.capacity.costs import SERVICES, Costs, Engine, Prediction, Stack
from conclave.domain.capacity.prediction import predicted
from conclave.domain.gpus import GPUS, Gpu, Model, most_running, step_s
from conclave.errors import ConclaveError
from conclave.local.state import Folders

SHIPPED = Path(__file__).with_name("capacity.json")  # of a machine with two cores, by the makers of Conclave
OWN = "capacity.json"  # beside a stack's state: what `benchmarks.scale` has measured here
_DEFAULT_RUNNING = 64


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The file that `python -m benchmarks.scale` writes: what was measured, on what."""

    costs: Costs
    cpu: str
    cores: int
    commit: str
    at: str
    errors_percent: dict[str, float] = {}  # of the model's predictions, by what was predicted


class WrongCosts(ConclaveError):
    """A file of costs that can't be read."""


def read(path: Path) -> Measured:
    """What was measured. Raises: WrongCosts."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    except (OSError, msgspec.DecodeError) as error:
        raise WrongCosts(f"{path}: {error}") from error


@click.command()
@click.option("--rate", required=True, type=positive(), help="Requests a second.")
@click.option("--samples", default=8, show_default=True, type=click.IntRange(1, 1024), help="Paths of a request.")
@click.option("--tokens", default=256.0, show_default=True, type=positive(), help="That a path decodes, on average.")
@click.option(
    "--spread", default=0.5, show_default=True, type=Amount(min=0), help="Of the tokens of paths: deviation over mean."
)
@click.option("--gpu", type=click.Choice(sorted(GPUS)), help="Computed from its data sheet, one for each decoder.")
@click.option(
    "--parameters", default=8.0, show_default=True, type=positive(), help="Of the model, in billions, for --gpu."
)
@click.option("--weight-bytes", default=2.0, show_default=True, type=positive(), help="Of each of them, for --gpu.")
@click.option(
    "--kv-kib", default=128.0, show_default=True, type=positive(), help="KiB of KV cache for a token, for --gpu."
)
@click.option(
    "--prompt-tokens",
    default=256.0,
    show_default=True,
    type=Amount(min=0),
    help="In the KV cache beside the path, for --gpu.",
)
@click.option(
    "--tokens-per-s", type=positive(), help="Of one decoder's engine when it is full, as you have measured it."
)
@click.option("--max-running", type=click.IntRange(min=1), help="Paths at once of each decoder.  [default: 64]")
@click.option("--decoders", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1), help="Of each other service.")
@click.option("--partitions", default=24, show_default=True, type=click.IntRange(min=1))
@click.option("--cores", type=click.IntRange(min=1), help="For all parts.  [default: of the machine that was measured]")
@click.option(
    "--costs",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that `python -m benchmarks.scale` has written.  [default: this checkout's own, else the one that ships]",
)
def capacity(
    rate: float,
    samples: int,
    tokens: float,
    spread: float,
    gpu: str | None,
    parameters: float,
    weight_bytes: float,
    kv_kib: float,
    prompt_tokens: float,
    tokens_per_s: float | None,
    max_running: int | None,
    decoders: int,
    replicas: int,
    partitions: int,
    cores: int | None,
    path: Path | None,
) -> None:
    """Predict what a stack carries, what limits it, and the percentiles of its answers.

    Without an engine (--gpu or --tokens-per-s) paths take no time: the pipeline alone. Exit status 1: it can't carry the rate.
    """
    if gpu is not None and tokens_per_s is not None:
        raise click.UsageError("--gpu computes what --tokens-per-s says: give one of them")
    measured = read(path or _nearest())
    engine = None
    if gpu is not None:
        model = Model(parameters * 1e9, weight_bytes, kv_kib * 1024)
        engine = _computed(GPUS[gpu], model, tokens, prompt_tokens + tokens / 2, max_running, decoders, spread)
    elif tokens_per_s is not None:
        engine = _measured(tokens_per_s, tokens, max_running or _DEFAULT_RUNNING, decoders, spread)
    stack = Stack(
        samples=samples,
        cores=cores or measured.cores,
        replicas={each: decoders if each == "decoder" else replicas for each in SERVICES},
        partitions=partitions,
        engine=engine,
    )
    found = predicted(measured.costs, stack, rate)
    for line in (*_told(found, stack, rate), *_grounds(measured, gpu, tokens_per_s)):
        click.echo(line)
    sys.exit(0 if found.p99_ms is not None else 1)


def _nearest() -> Path:
    """What was measured on this machine, else what ships."""
    own = Folders.default().root / OWN
    return own if own.exists() else SHIPPED


def _computed(
    gpu: Gpu, model: Model, tokens: float, context_tokens: float, max_running: int | None, decoders: int, spread: float
) -> Engine:
    """An engine by a GPU's data sheet."""
    fits = most_running(gpu, model, context_tokens)
    if fits < 1:
        raise click.UsageError(f"{model.num_bytes / 1e9:.0f} GB of weights leave no room on {gpu.memory_gb:.0f} GB")
    places = min(max_running or _DEFAULT_RUNNING, fits)

    def path_s(running: float) -> float:
        return tokens * step_s(gpu, model, max(1.0, running / decoders), context_tokens)

    return Engine(places * decoders, path_s, spread)


def _measured(tokens_per_s: float, tokens: float, max_running: int, decoders: int, spread: float) -> Engine:
    """An engine as somebody has measured it when it was full: a path takes as long on an emptier one, at most."""
    return Engine(max_running * decoders, partial(_path_s, tokens * max_running / tokens_per_s), spread)


def _path_s(path_s: float, _: float) -> float:
    return path_s


def _told(found: Prediction, stack: Stack, rate: float) -> list[str]:
    most = f"{found.most_per_s:.3g} requests/s, {found.most_per_s * stack.samples:.4g} paths/s"
    lines = [f"carries    {most}: limited by {found.limited_by}"]
    if found.p50_ms is None or found.p99_ms is None:
        return [*lines, f"asked      {rate:g} requests/s: more than it carries"]
    lines.append(f"asked      {rate:g} requests/s: {rate / found.most_per_s:.0%} of that")
    lines.append(f"answers    p50 {found.p50_ms:.0f} ms, p99 {found.p99_ms:.0f} ms")
    if stack.engine is not None and found.running is not None:
        path_s = stack.engine.path_s(found.running)
        lines.append(f"engine     {found.running:.1f} of {stack.engine.places} places taken, {path_s:.2f} s a path")
    used = ", ".join(f"{part} {cores:.2f}" for part, cores in found.cores_of.items())
    return [*lines, f"cores      {sum(found.cores_of.values()):.2f} of {stack.cores}: {used}"]


def _grounds(measured: Measured, gpu: str | None, tokens_per_s: float | None) -> list[str]:
    """What the figures rest on."""
    lines = [
        f"CPU        measured on {measured.cores} cores of {measured.cpu}, commit {measured.commit}, {measured.at}"
    ]
    if measured.errors_percent:
        worst = max(measured.errors_percent.values(), key=abs)
        lines.append(
            f"           {len(measured.errors_percent)} predictions were checked there, the worst off by {worst:+.0f} %"
        )
    if gpu is not None:
        lines.append(f"engine     computed from the data sheet of {gpu} (a roofline): a bound, measured by nobody")
    elif tokens_per_s is not None:
        lines.append(f"engine     {tokens_per_s:g} tokens/s, as you said")
    return lines
