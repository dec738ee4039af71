"""Decodes many paths side by side, each as its ask's program goes on: the decoder's own programs, tools and forms.

What is measured is so what ships; only the engine differs, which takes a batch at a time and is asked by nobody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from conclave.domain.programs import PROGRAMS, Speak
from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.prompts import PromptSet
from conclave.tools import TOOLS
from schemas.values import Ask, Call, FinishReason, Turn

Fields = Mapping[str, str]


class BatchEngine(Protocol):
    """What decodes: as conclave.engine.protocol has it, a batch at a time."""

    def decode(self, requests: Sequence[DecodeRequest]) -> Sequence[Decoded]:
        """What each request came to, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Path:
    """What a sample became. Tokens are those that the model wrote, in all turns; log probabilities those of the answer's turn."""

    turns: tuple[Turn, ...]
    answer: str | None
    probability: float | None
    num_tokens: int
    mean_logprob: float

    @property
    def is_declined(self) -> bool:
        """True where the model says that what it is asked is no question for it."""
        return self.answer is None and bool(self.turns) and self.turns[-1].is_declined


@dataclass
class _Open:
    """A path that goes on."""

    fields: Fields
    turns: list[Turn] = field(default_factory=list)
    mean_logprobs: list[float] = field(default_factory=list)  # of each turn


class BatchDecoder:
    """Paths over one engine and prompt set."""

    def __init__(self, engine: BatchEngine, prompt_set: PromptSet) -> None:
        self._engine, self._prompt_set = engine, prompt_set

    def decode(self, ask: Ask, fields: Sequence[Fields], *, num_samples: int = 1) -> list[list[Path]]:
        """So many paths for each set of fields, in their order."""
        begun = [_Open(each) for each in fields for _ in range(num_samples)]
        paths = self._ended(ask, begun)
        return [paths[index * num_samples : (index + 1) * num_samples] for index in range(len(fields))]

    def go_on(self, ask: Ask, fields: Sequence[Fields], paths: Sequence[Path]) -> list[Path]:
        """Each path as the program of `ask` goes on from its turns, which are of a program that begins in the same way."""
        begun = [
            _Open(each, list(path.turns), [path.mean_logprob] * len(path.turns))
            for each, path in zip(fields, paths, strict=True)
        ]
        return self._ended(ask, begun)

    def _ended(self, ask: Ask, paths: Sequence[_Open]) -> list[Path]:
        """All paths at their end."""
        program = PROGRAMS[ask.program]
        ended: dict[int, Path] = {}
        while len(ended) < len(paths):
            speaking: list[tuple[_Open, Speak]] = []
            for index, path in enumerate(paths):
                if index in ended:
                    continue
                match move := program.go_on(path.fields, path.turns, ask):
                    case Speak():
                        speaking.append((path, move))
                    case Call():
                        assert move.tool in ask.tools, f"{ask.form} is not granted {move.tool}"
                        path.turns.append(self._observed(path.turns[-1].form, move))
                        path.mean_logprobs.append(0.0)
                    case _:
                        tokens = sum(turn.tokens_out for turn in path.turns)
                        ended[index] = Path(
                            tuple(path.turns), move.answer, move.probability, tokens, path.mean_logprobs[move.turn]
                        )
            self._speak(ask, speaking)
        return [ended[index] for index in range(len(paths))]

    def _speak(self, ask: Ask, speaking: Sequence[tuple[_Open, Speak]]) -> None:
        """Adds a turn of the model's to each of the paths."""
        if not speaking:
            return
        requests = []
        for index, (_, move) in enumerate(speaking):
            rendered = self._prompt_set.form(move.form).render(move.fields, move.so_far)
            requests.append(
                DecodeRequest(str(index), rendered.messages, rendered.stop, ask.temperature, ask.top_p, ask.max_tokens)
            )
        for (path, move), decoded in zip(speaking, self._engine.decode(requests), strict=True):
            is_cut = decoded.finish_reason is FinishReason.LENGTH
            reading = self._prompt_set.form(move.form).read(
                decoded.text, move.so_far, is_cut=is_cut, fields=move.fields
            )
            path.turns.append(
                Turn(
                    form=move.form,
                    text=decoded.text,
                    answer=reading.answer,
                    call=None if is_cut else reading.call,
                    tokens_in=decoded.tokens_in or 0,
                    tokens_out=decoded.tokens_out or 0,
                    is_declined=reading.is_declined,
                )
            )
            path.mean_logprobs.append(decoded.mean_logprob or 0.0)

    def _observed(self, form: str, call: Call) -> Turn:
        """What a tool answers to a call, as it is put into the path."""
        result = TOOLS[call.tool](call.argument)
        tool_use = self._prompt_set.form(form).tool_use
        assert tool_use is not None, form
        return Turn(form=form, text=tool_use.observation(result), answer=result, tool=call.tool)
