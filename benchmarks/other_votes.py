"""How its_hub and optillm vote: their own code, asked from an environment of their own, which knows nothing of Conclave.

`python other_votes.py` reads what is asked (`Asked`) as JSON from its input and writes {seconds, texts} to its output: the text
that each prompt came to, in their order. What is left open (which answers are one) is set as their documentation has it for
answers of a known form; all else is as their authors wrote it. They are called as libraries: as servers each question would go
one way more.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

ANSWER = r"Answer:\s*([^\n]+)"  # what the model ends with


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a way."""

    way: str
    endpoint: str
    model: str
    budget: int
    temperature: float
    max_tokens: int
    at_once: int
    prompts: list[str]


async def by_its_hub(asked: Asked) -> tuple[float, list[str]]:
    """Seconds and texts of its_hub: all questions at once, and as many calls under way as `at_once` says."""
    from its_hub.core.algorithms.beta_self_consistency import BetaSelfConsistency
    from its_hub.core.algorithms.self_consistency import SelfConsistency, create_regex_projection_function
    from its_hub.core.lms.openai_lm import OpenAICompatibleLanguageModel
    from its_hub.core.orchestrator import LMOrchestrator

    kind = {"self-consistency": SelfConsistency, "beta-self-consistency": BetaSelfConsistency}[asked.way]
    algorithm = kind(
        consistency_space_projection_func=create_regex_projection_function(ANSWER),
        # Its own semaphore takes a thread for each call that waits; its connections, 100 at once, bound them as well.
        orchestrator=LMOrchestrator(max_concurrency=-1),
    )
    async with OpenAICompatibleLanguageModel(
        asked.endpoint, "none", asked.model, temperature=asked.temperature, max_completion_tokens=asked.max_tokens
    ) as model:
        await algorithm.ainfer(model, asked.prompts[0], 1)  # opens a connection
        started = time.perf_counter()
        found = await asyncio.gather(*(algorithm.ainfer(model, each, asked.budget) for each in asked.prompts))
        return time.perf_counter() - started, [each["content"] or "" for each in found]


def by_optillm(asked: Asked) -> tuple[float, list[str]]:
    """Seconds and texts of optillm: a thread for each question under way, as its server has it."""
    from openai import OpenAI

    with OpenAI(base_url=asked.endpoint, api_key="none") as client:
        client.chat.completions.create(
            model=asked.model, messages=[{"role": "user", "content": asked.prompts[0]}], max_tokens=1
        )
        vote = _optillm_votes(asked, client)[asked.way]
        with ThreadPoolExecutor(asked.at_once) as pool:
            started = time.perf_counter()
            texts = list(pool.map(vote, asked.prompts))
            return time.perf_counter() - started, texts


def _optillm_votes(asked: Asked, client: Any) -> dict[str, Callable[[str], str]]:
    from optillm.plugins import majority_voting_plugin
    from optillm.self_consistency import AdvancedSelfConsistency

    config = {"k": asked.budget, "temperature": asked.temperature, "max_tokens": asked.max_tokens}

    def self_consistency(prompt: str) -> str:  # draws at temperature 1, whatever it is told
        way = AdvancedSelfConsistency(client, asked.model, num_samples=asked.budget, request_config=config)
        clusters = way.evaluate("", prompt)["aggregated_result"]["clusters"]
        return str(clusters[0]["answer"]) if clusters else ""

    def majority_voting(prompt: str) -> str:
        return str(majority_voting_plugin.run("", prompt, client, asked.model, config)[0])

    return {"self_consistency": self_consistency, "majority_voting": majority_voting}


def main() -> None:
    """See the module's docstring."""
    asked = Asked(**json.load(sys.stdin))
    seconds, texts = by_optillm(asked) if "_" in asked.way else asyncio.run(by_its_hub(asked))
    json.dump({"seconds": seconds, "texts": texts}, sys.stdout)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
