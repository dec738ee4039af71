"""A path's tokens as text, read once it has ended.

vLLM reads every token of every path as it comes, to see whether the text has come to a stop: two fifths of what its front spends
on a token, on the one core that the decoder's own work has too. A path that stops at no text, and that nobody watches, is spared
that and is read here at its end.
"""

from collections import OrderedDict
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens

_UNFINISHED = "�"  # what part of a character reads as
_KNOWN_PIECES = 1 << 17  # tokens; models know up to a quarter of a million


class Words:
    """What tokens say, by the tokenizer of one model. `is_able` is False of one that is not of the library `tokenizers`."""

    def __init__(self, tokenizer: Any) -> None:
        self._whole, found = tokenizer, getattr(tokenizer, "_tokenizer", None)
        self._tokenizer: Any = found if isinstance(found, Tokenizer) else None
        self._known: OrderedDict[int, str] = OrderedDict()

    @property
    def is_able(self) -> bool:
        """True where `read` can be asked."""
        return self._tokenizer is not None

    def read(self, prompt: list[int], said: list[int], *, is_stopped: bool) -> tuple[str, list[str]]:
        """What `said` adds to the text of `prompt`, as vLLM reads it token by token; and what each of its tokens says.

        A character that its last tokens leave unfinished is not in it. Where one lies across tokens it is the last one's.
        `is_stopped`: its last token is the one that ended it, and no text.
        """
        pieces = [self._piece(each) for each in said]
        heard = said[:-1] if is_stopped else said
        if not any(_UNFINISHED in each for each in pieces):
            text = self._stream(prompt).step(self._tokenizer, heard) if heard else ""
            if text is not None:
                return text, pieces
        added = self._one_by_one(prompt, heard)
        return "".join(added), [*added, *pieces[len(heard) :]]

    def _piece(self, token: int) -> str:
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = convert_ids_list_to_tokens(self._whole, [token])[0]
            if len(self._known) > _KNOWN_PIECES:
                self._known.popitem(last=False)
        return found

    def _one_by_one(self, prompt: list[int], said: list[int]) -> list[str]:
        stream, added = self._stream(prompt), list[str]()
        for token in said:
            try:
                text = stream.step(self._tokenizer, token)
            except Exception as error:
                # Bytes that are no text can bring the stream's state to nothing; vLLM begins a new one there as well.
                if not str(error).startswith("Invalid prefix"):
                    raise
                stream = self._stream([])
                text = stream.step(self._tokenizer, token)
            added.append(text or "")
        return added

    def _stream(self, prompt: list[int]) -> Any:
        return DecodeStream(ids=prompt, skip_special_tokens=True)
