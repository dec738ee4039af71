"""A broker, a database and every service, of one run of a benchmark alone."""

import asyncio
import os
import shutil
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from conclave.local.servers.kafka import KafkaBroker
from conclave.local.servers.postgres import PostgresServer
from conclave.runtime.topics import ensure_topics
from conclave.store.migrate import upgrade
from conclave.testing.pipeline import Pipeline

CHECKOUT = Path(__file__).resolve().parents[1]


@asynccontextmanager
async def stack(settings: dict[str, str]) -> AsyncIterator[tuple[Pipeline, PostgresServer]]:
    """A broker, a database and every service, of this run alone."""
    folder = CHECKOUT / ".conclave" / f"bench-{os.getpid()}-{uuid.uuid4().hex[:4]}"
    folder.mkdir(parents=True)
    broker = KafkaBroker(folder / "kafka", jars_dir=CHECKOUT / ".conclave" / "jars")
    server = PostgresServer(folder / "pg")
    await broker.start()
    await server.start()
    await asyncio.to_thread(upgrade, server.dsn())
    await ensure_topics(str(broker.endpoint), partitions=4)
    pipeline = Pipeline(
        broker, server.dsn(), folder, {"CONCLAVE_LOG_LEVEL": "warning", "CONCLAVE_SCRIPTED_JOURNAL": "", **settings}
    )
    try:
        async with pipeline.running(limit_s=300):
            yield pipeline, server
    finally:
        await server.stop()
        await broker.stop()
        shutil.rmtree(folder, ignore_errors=True)


def counted(pipeline: Pipeline, name: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """What the services' /metrics say now of a name: the service as the pipeline calls it, labels, and value. Blocks."""
    for service_name, service in pipeline.services.items():
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=30) as response:
            for family in text_string_to_metric_families(response.read().decode()):
                for sample in family.samples:
                    if sample.name == name:
                        yield service_name, sample.labels, sample.value


def vllm_on_one_core() -> dict[str, str]:
    """Settings of vLLM on the last core alone, as `conclave up` has them on two."""
    return {"VLLM_CPU_OMP_THREADS_BIND": str((os.cpu_count() or 1) - 1), "VLLM_CPU_KVCACHE_SPACE": "1"}
