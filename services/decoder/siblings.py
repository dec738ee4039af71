"""How sure the ended paths of each step were, as far as they were decoded here: what sets the bar for those that follow."""

from collections import OrderedDict
from collections.abc import Sequence

from conclave.domain.params import number
from conclave.domain.path_watch import PARAMS, Sibling
from schemas.events import PathDecoded
from schemas.values import FinishReason

_REMEMBERED_STEPS = 4_096


class Siblings:
    """By step; nothing is kept of asks without a bar."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, list[Sibling]] = OrderedDict()

    def of(self, step_id: str) -> Sequence[Sibling]:
        """Those of one step."""
        return self._of.get(step_id, ())

    def note(self, path: PathDecoded) -> None:
        """Keeps a path that came to its end by itself, for a step that wants a bar."""
        keep = number(path.context.ask.params, PARAMS, "confidence_keep")
        if keep >= 1.0 or path.finish_reason is not FinishReason.STOP or path.lowest_group_logprob is None:
            return
        self._of.setdefault(path.step_id, []).append(Sibling(path.tokens_out or 0, path.lowest_group_logprob))
        self._of.move_to_end(path.step_id)
        while len(self._of) > _REMEMBERED_STEPS:
            self._of.popitem(last=False)
