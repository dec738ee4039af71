"""A path that is cut: told to end with what there is while it is decoded, and gone on from behind that, here or elsewhere."""

from collections.abc import Callable

from msgspec import Struct


class Prefix(Struct, frozen=True):
    """What was decoded of a turn before it was cut. The ids of its tokens are of the vocabulary of `model`; (): not known."""

    text: str
    num_tokens: int
    token_ids: tuple[int, ...] = ()
    model: str = ""


class Cut:
    """Asks a path once to end with what there is. Who decodes it looks at `is_asked`, or is told at once."""

    is_asked = False
    is_over = False  # by whoever was asked: it has been done, or can't be
    _whom: Callable[[], None] | None = None

    def ask(self) -> None:
        """Asks for it. Nothing where it was asked for before."""
        if not self.is_asked:
            self.is_asked = True
            if self._whom is not None:
                self._whom()

    def tell(self, whom: Callable[[], None] | None) -> None:
        """Has `whom` called as soon as it is asked for: at once where it was before. It must not fail and not block."""
        self._whom = whom
        if whom is not None and self.is_asked:
            whom()
