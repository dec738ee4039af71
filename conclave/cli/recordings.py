"""Recordings from files and from the record."""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct

from conclave.domain.replay import Recording
from schemas.values import MAX_SAMPLES, Ballot, PathFailure

# What a line may say of each of its samples besides answer and tokens, and the ballot's field that it is.
_FIGURES = {
    "probabilities": "probability",
    "mean_logprobs": "mean_logprob",
    "answer_logprobs": "answer_logprob",
    "lowest_group_logprobs": "lowest_group_logprob",
    "tail_logprobs": "tail_logprob",
}
_STORED_FIGURES = tuple(_FIGURES.values())


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a file: a question, its right answer if known, and its samples in recorded order, a list for each figure."""

    id: str | int
    answers: list[str | None]
    gold: str | None = None
    tokens: list[int] = []
    probabilities: list[float | None] = []
    mean_logprobs: list[float | None] = []
    answer_logprobs: list[float | None] = []
    lowest_group_logprobs: list[float | None] = []
    tail_logprobs: list[float | None] = []

    def __post_init__(self) -> None:
        if not 0 < len(self.answers) <= MAX_SAMPLES:
            raise ValueError(f"`answers` must hold 1 to {MAX_SAMPLES} samples")
        for name in ("tokens", *_FIGURES):
            if len(getattr(self, name)) not in (0, len(self.answers)):
                raise ValueError(f"`{name}` must be as many as `answers`")

    def recording(self) -> Recording:
        """The question with its ballots."""
        figures = {of: getattr(self, name) for name, of in _FIGURES.items() if getattr(self, name)}
        tokens = self.tokens or [0] * len(self.answers)
        ballots = (
            Ballot(
                sample_index=at,
                answer=answer or None,
                tokens_out=max(0, tokens[at]),
                **{of: values[at] for of, values in figures.items()},
            )
            for at, answer in enumerate(self.answers)
        )
        return Recording(str(self.id), self.gold, tuple(ballots))


def read(path: Path) -> list[Recording]:
    """The recordings of a file of JSON lines, gzipped if its name ends so. Raises: click.ClickException, naming the line."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise click.ClickException(f"{path}: {error}") from None
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=Line).recording())
            except msgspec.MsgspecError as error:
                raise click.ClickException(f"{path}, line {number}: {error}") from None
    if not found:
        raise click.ClickException(f"{path}: no recordings in it")
    return found


def of_stored(rows: Sequence[Mapping[str, Any]]) -> list[Recording]:
    """The recordings in paths of the record, which are in launch order by request.

    Of each step the first samples that all came to an end by themselves: what was cancelled never voted. A failed one costs and
    says nothing.
    """
    found = []
    for request_id, paths in groupby(rows, key=lambda row: str(row["request_id"])):
        in_order = list(_until_cancelled(paths))
        if in_order:
            ballots = (
                Ballot(
                    sample_index=row["sample_index"],
                    answer=row["answer"] or None,
                    tokens_out=row["tokens_out"] or 0,
                    is_declined=row["is_declined"],
                    **{name: row[name] for name in _STORED_FIGURES},
                )
                for row in in_order
            )
            found.append(Recording(request_id, in_order[0]["gold"], tuple(ballots)))
    return found


def _until_cancelled(paths: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for place, row in enumerate(paths):
        if row["sample_index"] != place or row["failure"] == PathFailure.CANCELLED:
            return
        yield row
