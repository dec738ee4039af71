"""`python -m services.decoder`."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave import prompts
from conclave.engine import ENGINES
from conclave.engine.trouble import Trouble
from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Handles
from conclave.tools import TOOLS
from services.decoder.handler import Decoder
from services.decoder.settings import DecoderSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The decoder with its engine running: the group is joined only once paths can be decoded."""
    own = load(DecoderSettings)
    prompt_sets = prompts.available(own.prompts_dir, tools=TOOLS)
    engine = ENGINES[own.engine](own.options())

    def hear(trouble: Trouble | None) -> None:
        if trouble is None:
            dependencies.back("engine")
        else:
            dependencies.lost("engine", str(trouble))

    await engine.start(hear)
    try:
        decoder = Decoder(engine, kv_cache_use_limit=own.kv_cache_use_limit, prompt_sets=prompt_sets)
        service = Service(
            "decoder",
            settings,
            Handles(decoder, may_take=decoder.may_take),
            dependencies,
            Kafka(settings.bootstrap_servers),
        )
        yield Parts(service, listener=decoder, status=decoder.status)
    finally:
        await engine.stop()


if __name__ == "__main__":
    sys.exit(main("decoder", compose, DecoderSettings))
