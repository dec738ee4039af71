"""Prompts as the ids of their tokens."""

from collections import OrderedDict
from typing import Any

from conclave.engine.protocol import DecodeRequest
from conclave.prompts import Message

_CACHED_PROMPTS = 1024


class Prompts:
    """Those of one model, by its own tokenizer and chat template."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._known: OrderedDict[tuple[Message, ...], list[int]] = OrderedDict()

    def tokens_of(self, request: DecodeRequest) -> list[int]:
        """The ids of the prompt's tokens, and of those that a turn which was cut has behind it."""
        prefix = request.prefix
        if prefix is None:
            return self._tokens(request.messages)
        if prefix.model == self._model and len(prefix.token_ids) == prefix.num_tokens:
            return [*self._tokens(request.messages), *prefix.token_ids]
        return self._tokens(request.in_words().messages)

    def _tokens(self, messages: tuple[Message, ...]) -> list[int]:
        """The prompt's token ids. A step's samples share their prompt, so it is tokenised once.

        A path that is gone on from stands after the generation prompt as it was said: chat templates trim or rewrite an
        assistant's message, and then neither the model nor the prefix cache would see what was decoded. Each is its own
        path's, so none is remembered.
        """
        if messages[-1].role == "assistant":
            return self._encoded(self._prompt(messages[:-1]) + messages[-1].content)
        found = self._known.get(messages)
        if found is None:
            found = self._known[messages] = self._encoded(self._prompt(messages))
            while len(self._known) > _CACHED_PROMPTS:
                self._known.popitem(last=False)
        return found

    def _prompt(self, messages: tuple[Message, ...]) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return text

    def _encoded(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))
