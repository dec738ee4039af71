"""What a stack consists of: which parts, how many of each service, and the settings each process gets."""

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conclave.engine import ENGINES
from conclave.extensions import SETTING, load_extensions, named_in
from conclave.local.errors import LocalStackError, PartMissing
from conclave.local.state import checkout_folder
from schemas.flow import SERVICES, ServiceRow

KAFKA, POSTGRES = "kafka", "postgres"
MIGRATIONS, TOPICS = "migrations", "topics"
WEB_PORT = 8642  # of the gateway where it is free: what the docs' examples call
_KV_CACHE_GIB = "1"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")  # as opposed to a path, which is absolute by then


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service: `decoder`, or `decoder-2` where there are more."""

    row: ServiceRow
    index: int
    num_replicas: int

    @property
    def name(self) -> str:
        """What the process is called in logs and status."""
        return self.row.name if self.index == 0 else f"{self.row.name}-{self.index + 1}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Parts to run, all of them unless `only` names some, and `replicas` of a service where not one."""

    only: frozenset[str] = frozenset()
    replicas: Mapping[str, int] = field(default_factory=dict)
    engine: str = "vllm"
    model: str = "models/reasoner"  # a folder; for other engines, the name by which a server knows it

    def has(self, part: str) -> bool:
        """True when the part is to run."""
        return not self.only or part in self.only

    def service_replicas(self) -> list[Replica]:
        """Every service process, in the order of the flow."""
        rows = [row for row in SERVICES.values() if self.has(row.name)]
        counts = [(row, self.replicas.get(row.name, 1)) for row in rows]
        return [Replica(row, index, count) for row, count in counts for index in range(count)]

    def check(self) -> None:
        """Raises: LocalStackError for a part or an engine that does not exist, PartMissing for an absent model."""
        load_extensions(named_in(os.environ.get(SETTING, "")))
        known = {KAFKA, POSTGRES, *SERVICES}
        if unknown := (self.only | set(self.replicas)) - known:
            raise LocalStackError(f"No part is called {', '.join(sorted(unknown))}. Parts: {', '.join(sorted(known))}.")
        if any(replica.row.needs_model for replica in self.service_replicas()):
            self._check_engine()

    def _check_engine(self) -> None:
        if self.engine not in ENGINES:
            raise LocalStackError(f"No engine is called {self.engine}. Engines: {', '.join(ENGINES)}.")
        if self.engine == "vllm":
            self._check_vllm()

    def _check_vllm(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise PartMissing("vLLM", "Run `make setup`, or choose another engine with --engine.")
        folder = Path(self.model)
        is_whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
        if not is_whole and not _HUB_ID.fullmatch(self.model):
            remedy = "Restore it from the repository, make it with `make train`, or name another with --model."
            raise PartMissing(f"The model ({self.model})", remedy)


def model_of(engine: str, named: str | None) -> str:
    """What --model or CONCLAVE_MODEL means: a folder if there is one of that name, else as it stands; else what ships."""
    if named is None:
        return str((checkout_folder() or Path.cwd()) / "models" / "reasoner") if engine == "vllm" else "reasoner"
    return os.path.abspath(named) if engine == "vllm" and Path(named).is_dir() else named


def environment_of(
    replica: Replica,
    plan: Plan,
    *,
    bootstrap_servers: str | None,
    dsn: str | None,
    port: int,
    web_port: int | None = None,
) -> dict[str, str]:
    """The whole environment of a service process: ours, its settings, and what a caller's own environment overrides."""
    settings = {"CONCLAVE_HTTP_PORT": str(port)}
    if bootstrap_servers:
        settings["CONCLAVE_BOOTSTRAP_SERVERS"] = bootstrap_servers
    if (replica.row.needs_postgres or replica.row.asks_postgres) and dsn:
        settings["CONCLAVE_POSTGRES_DSN"] = dsn
    if web_port is not None:
        settings["CONCLAVE_GATEWAY_PORT"] = str(web_port)
    defaults = {"PYTHONUNBUFFERED": "1"}
    if plan.has(KAFKA):  # nobody else's replicas are in its groups
        defaults["CONCLAVE_INSTANCE_ID"] = replica.name
    if replica.row.needs_model:
        settings |= {"CONCLAVE_ENGINE": plan.engine, "CONCLAVE_MODEL": plan.model}
        defaults |= _vllm_environment(replica, is_local=Path(plan.model).is_dir())
    else:
        defaults |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return defaults | dict(os.environ) | settings


def _vllm_environment(replica: Replica, *, is_local: bool) -> dict[str, str]:
    """vLLM on a CPU: threads that are not bound, or fight with other processes for a core, are 5 to 10 times slower."""
    cores = cores_for(replica.index, replica.num_replicas, sorted(os.sched_getaffinity(0)))
    return {
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_CPU_KVCACHE_SPACE": _KV_CACHE_GIB,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": str(int(is_local)),
    }


def cores_for(index: int, num_replicas: int, cores: list[int]) -> list[int]:
    """The cores of one decoder: the first core stays free for everything else, the others are dealt out in turn."""
    shared = cores[1:] or cores
    return shared[index::num_replicas] or [shared[index % len(shared)]]
