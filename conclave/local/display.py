"""How a stack that starts or stops looks: a table that changes in place in a terminal, a line a change elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from conclave.local.state import Part, PartPhase, Snapshot

_STYLES = {
    PartPhase.WAITING: "dim",
    PartPhase.STARTING: "yellow",
    PartPhase.READY: "green",
    PartPhase.UNREADY: "yellow",
    PartPhase.RESTARTING: "red",
    PartPhase.STOPPED: "dim",
}
_BAR_WIDTH, _NAME_WIDTH, _PHASE_WIDTH = 30, 14, 11
_PLAIN_STEPS = 4  # a piped download says so this often


class Display:
    """Shows snapshots one after the other, as a context manager."""

    def __init__(self, console: Console, seen: Snapshot | None = None) -> None:
        """`seen` is a snapshot whose parts are no news."""
        self._console = console
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None
        self._shown: dict[str, Part] = {part.name: part for part in seen.parts} if seen else {}
        self._quarters_shown = _PLAIN_STEPS if seen else -1

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Brings the display up to `snapshot`."""
        if self._live:
            self._live.update(_picture(snapshot))
        else:
            self._print_changes(snapshot)

    def _print_changes(self, snapshot: Snapshot) -> None:
        if snapshot.download_bytes:
            quarters = _PLAIN_STEPS * snapshot.downloaded_bytes // snapshot.download_bytes
            if quarters != self._quarters_shown:
                self._quarters_shown = quarters
                self._console.print(_download_text(snapshot), highlight=False)
        for part in snapshot.parts:
            before = self._shown.get(part.name)
            if part.phase is not PartPhase.WAITING and (before is None or before.phase is not part.phase):
                self._console.print(_line(part), highlight=False)
            self._shown[part.name] = part


def part_table(snapshot: Snapshot) -> Table:
    """A row a part: name, phase, address, detail."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for part in snapshot.parts:
        phase: RenderableType = Text(part.phase, style=_STYLES[part.phase])
        if part.phase is PartPhase.STARTING:
            phase = Spinner("dots", Text(part.phase, style=_STYLES[part.phase]))
        table.add_row(
            part.name, phase, _address(part), Text(part.detail, style="dim", overflow="ellipsis", no_wrap=True)
        )
    return table


def _picture(snapshot: Snapshot) -> RenderableType:
    if not 0 <= snapshot.downloaded_bytes < snapshot.download_bytes:
        return part_table(snapshot)
    bar = ProgressBar(snapshot.download_bytes, snapshot.downloaded_bytes, width=_BAR_WIDTH)
    return Group(part_table(snapshot), Text(_download_text(snapshot)), bar)


def _download_text(snapshot: Snapshot) -> str:
    done, total = snapshot.downloaded_bytes / 1e6, snapshot.download_bytes / 1e6
    return f"Kafka's jars: {done:.0f} of {total:.0f} MB downloaded and verified"


def _line(part: Part) -> str:
    detail = f"  {part.detail}" if part.detail else ""
    return f"{part.name:<{_NAME_WIDTH}} {part.phase:<{_PHASE_WIDTH}} {_address(part)}{detail}".rstrip()


def _address(part: Part) -> str:
    return f"127.0.0.1:{part.port}" if part.port and part.mark else ""
