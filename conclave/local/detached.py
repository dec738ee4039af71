"""Starting a supervisor that outlives its starter, which waits for none of what a supervisor imports."""

import subprocess
import sys

import msgspec

from conclave.local.machine.process import require_space
from conclave.local.plan import Plan
from conclave.local.state import Folders

_NEEDED_BYTES = 16 * 2**20
_MODULE = "conclave.local.supervisor"


def make_room(folders: Folders) -> None:
    """Makes the folders that a supervisor writes to. Raises: DiskFull, because later it could not even say so."""
    folders.root.mkdir(parents=True, exist_ok=True)
    require_space(folders.root, _NEEDED_BYTES)
    folders.logs.mkdir(exist_ok=True)


def start_detached(plan: Plan, folders: Folders) -> subprocess.Popen[bytes]:
    """Starts a supervisor that outlives this process and its terminal."""
    make_room(folders)
    arguments = [sys.executable, "-m", _MODULE, msgspec.json.encode(_Ordered.of(plan)).decode(), str(folders.root)]
    with (folders.logs / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


class _Ordered(msgspec.Struct, frozen=True):
    """A plan on its way to the supervisor's process."""

    only: tuple[str, ...]
    replicas: dict[str, int]
    engine: str
    model: str

    @classmethod
    def of(cls, plan: Plan) -> "_Ordered":
        return cls(tuple(sorted(plan.only)), dict(plan.replicas), plan.engine, plan.model)

    def plan(self) -> Plan:
        return Plan(frozenset(self.only), self.replicas, self.engine, self.model)


def ordered(argument: str) -> Plan:
    """The plan that a supervisor was started with."""
    return msgspec.json.decode(argument, type=_Ordered).plan()
