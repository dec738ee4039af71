"""`python -m services.decomposer`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from conclave import prompts
from conclave.policies.current import CurrentPolicies
from conclave.runtime.attempts import Dependencies
from conclave.runtime.kafka import Kafka
from conclave.runtime.process import Parts, main
from conclave.runtime.service import Service
from conclave.runtime.settings import RuntimeSettings, load
from conclave.runtime.work import Handles
from conclave.tools import TOOLS
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings


@asynccontextmanager
async def compose(settings: RuntimeSettings, dependencies: Dependencies) -> AsyncIterator[Parts]:
    """The decomposer, which knows a request published twice, and follows the files of its policies."""
    own = load(DecomposerSettings)
    prompt_sets = prompts.available(own.prompts_dir, tools=TOOLS)
    folders = [own.policies_dir] if own.policies_dir else []
    policies = CurrentPolicies(own.default_policy, *folders, prompt_sets=prompt_sets)
    decomposer = Decomposer(own, policies)
    work = Handles(decomposer, request_key=decomposer.request_key)
    service = Service("decomposer", settings, work, dependencies, Kafka(settings.bootstrap_servers))
    following = asyncio.create_task(policies.follow(), name="policies")
    try:
        yield Parts(service, listener=decomposer, status=decomposer.status)
    finally:
        following.cancel()
        await asyncio.wait({following})


if __name__ == "__main__":
    sys.exit(main("decomposer", compose, DecomposerSettings))
