"""Questions that routers are tried with, and what one makes of them."""

import random

from conclave.domain.routing import Choice, Pressure, Router, Rule, Streaks, route
from conclave.domain.routing.difficulty import Classifier
from conclave.domain.routing.examples import Example
from conclave.domain.routing.learning import learned

HARD = "Ann has 3 nuts. Ben has twice as many. They share them equally. " * 3 + "How many are left?"
EASY = "Ann has 3 nuts and gets 4. How many has she?"


def trained(num: int = 200) -> Classifier:
    """A classifier of questions of one to eight sentences: those of more than four are answered wrong."""
    rng = random.Random(7)
    rows = [(rng.randint(1, 8), rng.randint(1, 99)) for _ in range(num)]
    given = [Example(f"Ann has {first} nuts. " * length + "How many?", float(length > 4)) for length, first in rows]
    return learned(given, trained_at="2026-11-26T00:00:00Z")


def routed(
    *rules: Rule,
    question: str = EASY,
    tags: dict[str, str] | None = None,
    tenant: str = "",
    at: str = "",
    classifier: Classifier | None = None,
    pressure: Pressure | None = None,
    streaks: Streaks | None = None,
    scope: str = "",
) -> Choice:
    return route(
        Router(name="mine", rules=rules, scope=scope),
        question,
        tags or {},
        tenant=tenant,
        at=at,
        classifier=classifier,
        pressure=pressure or Pressure(),
        streaks=streaks or Streaks(),
    )


ROUTER_FILE = """
about = "mine"
classifier = "hard.json"
[limits]
thoughts_per_minute = 10
[[rules]]
name = "easy"
policy = "direct"
max_difficulty = 0.5
max_difficulty_at_limit = 0.9
"""
