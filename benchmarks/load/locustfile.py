"""Load for those who have Locust: `locust -f benchmarks/load/locustfile.py --host http://127.0.0.1:8642`.

    LoneAsker     asks one question, waits for its result, and asks the next: what somebody at a screen does
    ChatClient    the same through OpenAI's chat completions, with an idempotency key
    BatchAsker    asks with priority `batch` and looks now and then whether it is answered

A question without an answer counts as a failure of `result`. CONCLAVE_LOAD_KEY: a key, where the gateway asks for one;
CONCLAVE_LOAD_POLICY: a policy. Locust is no part of Conclave's requirements: `pip install 'conclave[load]'`.
"""

import json
import os
import random
import uuid
from pathlib import Path
from typing import Any

from locust import HttpUser, between, task

_PROBLEMS = Path(__file__).resolve().parents[2] / "data" / "problems" / "test.jsonl"
_QUESTIONS = [json.loads(line)["question"] for line in _PROBLEMS.read_text().splitlines()]
_POLICY = os.environ.get("CONCLAVE_LOAD_POLICY")
_KEY = os.environ.get("CONCLAVE_LOAD_KEY")
_WAIT_S = 120


class _Client(HttpUser):
    abstract = True
    wait_time = between(0.0, 1.0)

    def on_start(self) -> None:
        """Shows its key."""
        if _KEY:
            self.client.headers["Authorization"] = f"Bearer {_KEY}"

    def ask(self, **more: Any) -> str | None:
        """Asks any question; the request's id, or None where the gateway did not take it."""
        body = {"question": random.choice(_QUESTIONS), **({"policy": _POLICY} if _POLICY else {}), **more}
        with self.client.post("/v1/requests", json=body, name="ask", catch_response=True) as response:
            if response.status_code != 202:
                response.failure(f"{response.status_code}: {response.text[:200]}")
                return None
            return str(response.json()["id"])

    def is_ended(self, request_id: str, wait_s: int) -> bool:
        """Whether a request has ended within `wait_s`; one that failed is counted as a failure."""
        path = f"/v1/requests/{request_id}?wait_s={wait_s}"
        with self.client.get(path, name="result", catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text[:200]}")
                return True
            status = response.json()["status"]
            if status == "failed":
                response.failure("the request failed")
            return status in ("answered", "failed")


class LoneAsker(_Client):
    """One question after the other."""

    weight = 6

    @task
    def question(self) -> None:
        """Asks, and waits for the end."""
        request_id = self.ask(priority="interactive")
        if request_id is not None and not self.is_ended(request_id, _WAIT_S):
            self.environment.events.request.fire(
                request_type="GET", name="result", response_time=_WAIT_S * 1000, response_length=0,
                exception=TimeoutError(f"no end within {_WAIT_S} s"), context={},
            )  # fmt: skip


class ChatClient(_Client):
    """A client of OpenAI's API."""

    weight = 3

    @task
    def completion(self) -> None:
        """One chat completion."""
        body = {"model": _POLICY or "conclave", "messages": [{"role": "user", "content": random.choice(_QUESTIONS)}]}
        self.client.post("/v1/chat/completions", json=body, name="chat", headers={"Idempotency-Key": str(uuid.uuid4())})


class BatchAsker(_Client):
    """Somebody who is in no hurry."""

    weight = 1
    wait_time = between(1.0, 5.0)

    def on_start(self) -> None:
        """Has asked nothing yet."""
        super().on_start()
        self.open: list[str] = []

    @task
    def question(self) -> None:
        """Asks one more, and looks after the oldest that has not ended."""
        request_id = self.ask(priority="batch")
        if request_id is not None:
            self.open.append(request_id)
        if self.open and self.is_ended(self.open[0], 0):
            self.open.pop(0)
