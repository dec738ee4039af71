"""The policies of a running service: checked at start, followed as their files change, never replaced by wrong ones.

They are checked against the prompt sets that are followed beside them: both are taken over together, or neither.
"""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from conclave import prompts
from conclave.errors import Misconfigured, WrongSetting
from conclave.file_states import LOOKED_AT_EVERY_S, FileState, states_of
from conclave.policies import PolicySet, Problem, load
from conclave.prompts import PromptSet, UnknownPrompt
from conclave.prompts.current import CurrentPrompts
from schemas.values import Policy

log = structlog.get_logger(__name__)


class CurrentPolicies:
    """The last good set of policies. `default` is the one of requests that name none: a set without it is wrong."""

    def __init__(
        self, default: str, *folders: Path, prompts_dir: Path | None = None, tools: Collection[str] = ()
    ) -> None:
        """`prompts_dir`: an operator's prompt sets, whose forms may call `tools`. A set that a policy needs is followed with it.

        Raises: Misconfigured, listing everything that is wrong with any file.
        """
        self._default, self._folders = default, folders
        self._prompts = CurrentPrompts(prompts_dir, tools=tools)
        self._seen = self._signature()
        self._policies, self._problems = self._load(self._prompts.sets)
        if self._problems:
            raise Misconfigured([WrongSetting(_place(each), each.expected, each.got) for each in self._problems])

    def find(self, reference: str | None) -> Policy | None:
        """The policy that a request names, or the default one; None when there is none of that name."""
        return self._policies.find(self._default if reference is None else reference)

    @property
    def default(self) -> Policy:
        """The one of requests that name none."""
        found = self._policies.find(self._default)
        assert found is not None  # a set without it is never taken over
        return found

    @property
    def policies(self) -> PolicySet:
        """All of them, as they are now."""
        return self._policies

    def has_form(self, policy: Policy, form: str) -> bool:
        """True where a policy's prompt set has a form."""
        try:
            return form in prompts.load(policy.prompt_set, self._prompts.sets).forms
        except UnknownPrompt:
            return False

    def purpose(self, policy: Policy) -> str:
        """What the model is for that a policy's prompt set was made for; "" where that says nothing."""
        try:
            return prompts.load(policy.prompt_set, self._prompts.sets).purpose
        except UnknownPrompt:
            return ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a request may use."""
        return self._policies.names

    def status(self) -> dict[str, object]:
        """What /ready says: how many policies are in use, and why changed files are not."""
        refused: dict[str, object] = (
            {"policies_refused": [str(each) for each in self._problems]} if self._problems else {}
        )
        return {"policies": len(self._policies.rows)} | refused

    async def follow(self) -> None:
        """Looks at the files every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Takes over what has changed since; policies and prompt sets with anything wrong are refused as a whole, and said so."""
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        prompt_sets = self._prompts.look()
        wrong = [Problem(each.name, "", each.expected, str(each.got)) for each in prompt_sets.problems]
        found, problems = (self._policies, []) if wrong else self._load(prompt_sets.sets)
        self._problems = wrong + problems
        if self._problems:
            log.error(
                "policies_refused", problems=[str(each) for each in self._problems], kept=len(self._policies.rows)
            )
            return
        self._policies = found
        self._prompts.take(prompt_sets)
        log.info("policies_loaded", policies=len(found.rows), prompt_sets=len(prompt_sets.sets))

    def _load(self, prompt_sets: Mapping[str, PromptSet]) -> tuple[PolicySet, list[Problem]]:
        found, problems = load(*self._folders, prompt_sets=prompt_sets)
        if found.find(self._default) is None:
            expected = f"a policy of requests that name none: {', '.join(found.names)}"
            problems.append(Problem("CONCLAVE_DEFAULT_POLICY", "", expected, self._default))
        return found, problems

    def _signature(self) -> tuple[FileState, ...]:
        return (*self._prompts.states(), *states_of(self._folders, "*.toml"))


def _place(problem: Problem) -> str:
    return f"{problem.file}: {problem.field}" if problem.field else problem.file
