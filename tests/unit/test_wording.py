"""A form words for its model what strategies, programs and votes read and write; nothing of that is said by the domain itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET, structs

from conclave import policies, prompts
from conclave.domain.equivalence import rule_of
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Conclude
from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.policies import PolicySet
from conclave.prompts import PromptSet
from conclave.prompts.wording import together
from conclave.testing import events as made
from conclave.testing.strategies import played
from conclave.tools import TOOLS
from schemas import codec
from schemas.events import PlanMade
from schemas.flow import topic_of
from schemas.values import Ask, FinishReason, Policy, Step, Wording
from training.decoding import BatchDecoder
from training.reasoning import answered

GERMAN = r"""
[forms.denke]
user = "{question}\nBekannt:\n{earlier_in_full}\nEnde mit `Ergebnis: `."
otherwise = { earlier_in_full = "nichts" }
answer = ['(?m)^Ergebnis: (.+)$']
[forms.denke.wording]
known_in_full = "Nr. {number} ({question}) ergab {answer}"
called = "{argument} ergab {result}"
not_called = "{argument} ergab nichts"

[forms.teile]
user = "Teile: {question}"
extract = "whole_text"
[forms.teile.wording]
part = '(?P<number>[0-9]+)(?: braucht (?P<needs>[0-9]+(?: und [0-9]+)*))? – (?P<text>\S.*)'

[forms.frage]
user = "Problem: {question}\nBekannt:\n{earlier_in_full}\nNächste Frage?"
otherwise = { earlier_in_full = "nichts" }
extract = "whole_text"
[forms.frage.wording]
no_follow_up = '(?i)keine( weitere)?\W*'
part = '(?P<number>[0-9]+)(?: braucht (?P<needs>[0-9]+(?: und [0-9]+)*))? – (?P<text>\S.*)'
known_in_full = "Nr. {number} ({question}) ergab {answer}"

[forms.argument]
user = "Womit? {question}"
extract = "whole_text"
[forms.argument.wording]
no_call = '(?i)nichts\W*'

[forms.zeile]
user = "Problem: {question}\nBisher:\n{path}\nNächste Zeile?"
otherwise = { path = "nichts" }
stop = ["\n"]
extract = "whole_text"
[forms.zeile.wording]
gives_answer = '(?i)ergebnis: .*'

[forms.nochmals]
user = "Problem: {question}\nFalsch war:\n{blamed}\nDenn:\n{criticism}\nDavor:\n{path}\nNächste Zeile?"
otherwise = { path = "nichts" }
stop = ["\n"]
extract = "whole_text"
[forms.nochmals.wording]
gives_answer = '(?i)ergebnis: .*'

[forms.ende]
user = "Problem: {question}\nBisher:\n{path}\nZu Ende?"
otherwise = { path = "nichts" }
answer = ['(?m)^Ergebnis: (.+)$']

[forms.pruefe]
user = "Prüfe: {question}\n{path}"
answer = ['(?m)^(richtig|Zeile [0-9]+ stimmt nicht.*)$']
[forms.pruefe.wording]
content = "richtig"
blames = 'Zeile (?P<step>[0-9]+) stimmt nicht.*'
answered = "Ergebnis: {answer}"

[forms.criticise]
user = "Kritik? {question}\n{path}"
answer = ['(?m)^(richtig|Zeile [0-9]+ stimmt nicht.*)$']
produces = "criticism"
satisfied = "richtig"

[forms.retry]
user = "{question}\nVersuche:\n{trials}\nNochmals."
answer = ['(?m)^Ergebnis: (.+)$']
[forms.retry.wording]
trial = "Versuch {number} ergab {answer}: {criticism}"
no_answer = "nichts"

[forms.waehle]
user = "{question}\nKandidaten:\n{candidates}\nWelcher?"
extract = "whole_text"
produces = "choice"
[forms.waehle.wording]
names_choice = '(?i)Kandidat (?P<label>[a-h1-8])\.?'

[forms.nochmal]
user = "{question}\nStimmen:\n{earlier}\nNochmals."
answer = ['(?m)^Ergebnis: (.+)$']
[forms.nochmal.wording]
voted = "{answer} hatte {votes} Stimmen"
voted_once = "{answer} hatte eine Stimme"
"""

_ONCE = 'stopping = "fixed"\nmax_samples = 1\ntemperature = 0.0\n'


def _policy(strategy: str, forms: Mapping[str, str], head: str = "") -> str:
    asks = "".join(f'[asks.{ask}]\nform = "{form}"\n{_ONCE}' for ask, form in forms.items())
    return f'prompt_set = "deutsch"\nstrategy = "{strategy}"\n{head}{asks}'


POLICIES = {
    "kritik": f'prompt_set = "deutsch"\n[asks.whole]\nform = "denke"\nprogram = "criticised"\nmax_turns = 3\n{_ONCE}',
    "teile": _policy("least_to_most", {"decompose": "teile", "sub_question": "denke", "whole": "denke"}),
    "frage": _policy("self_ask", {"follow_up": "frage", "sub_question": "denke", "whole": "denke"}),
    "baum": _policy("tree", {"next_line": "zeile", "finish": "ende"}),
    "baum-geprueft": _policy(
        "tree_checked", {"next_line": "zeile", "finish": "ende", "check": "pruefe", "again_line": "nochmals"}
    ),
    "wahl": _policy("select", {"whole": "denke", "select": "waehle"}, "params = { drafts = 2 }\n"),
    "runden": _policy("contemplation", {"whole": "denke", "reconsider": "nochmal"}, "params = { rounds = 2 }\n"),
}


class Said:
    """An engine whose model says, of the first words that a prompt holds, what belongs to them; and what it was asked."""

    def __init__(self, replies: Sequence[tuple[str, str]]) -> None:
        self._replies = replies
        self.asked: list[str] = []

    def decode(self, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        prompts = [request.messages[-1].content for request in requests]
        self.asked += prompts
        said = [next(reply for words, reply in self._replies if words in prompt) for prompt in prompts]
        return [Decoded(text, FinishReason.STOP, 1, 1, -0.1, None, 0.0, 0.0, 0.0) for text in said]


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> tuple[PromptSet, PolicySet]:
    """A prompt set of another language and its policies, as an operator's files."""
    folder = tmp_path_factory.mktemp("deutsch")
    (folder / "prompts").mkdir()
    (folder / "policies").mkdir()
    (folder / "prompts" / "deutsch.toml").write_text(GERMAN)
    for name, text in POLICIES.items():
        (folder / "policies" / f"{name}.toml").write_text(text)
    sets = prompts.available(folder / "prompts", tools=TOOLS)
    found, problems = policies.load(folder / "policies", prompt_sets=sets)
    assert problems == []
    return sets["deutsch"], found


def asked(german: tuple[PromptSet, PolicySet], policy: str, *replies: tuple[str, str]) -> tuple[str | None, list[str]]:
    """What a question comes to by a policy, as the trainer's evaluator answers it, and all prompts on the way."""
    prompt_set, found = german
    engine, by = Said(replies), found.find(policy)
    assert by is not None
    (answer,) = answered(BatchDecoder(engine, prompt_set), by, ["Wie viele?"])
    return answer.answer, engine.asked


def test_a_split_is_read_and_its_parts_are_told_what_others_came_to(german: tuple[PromptSet, PolicySet]) -> None:
    answer, prompts_ = asked(
        german,
        "teile",
        ("Teile:", "1 – Wie alt ist Tom?\n2 – Wie alt ist Eva?\n3 braucht 1 und 2 – Wie alt sind beide?"),
        ("Nr. 2 (Wie alt ist Eva?) ergab 8", "Ergebnis: 15"),
        ("Tom?", "Ergebnis: 7"),
        ("Eva?", "Ergebnis: 8"),
    )
    assert answer == "15"
    assert "Bekannt:\nNr. 1 (Wie alt ist Tom?) ergab 7\nNr. 2 (Wie alt ist Eva?) ergab 8\n" in prompts_[-1]


def test_follow_ups_are_asked_until_the_model_says_in_its_words_that_none_is_left(
    german: tuple[PromptSet, PolicySet],
) -> None:
    answer, prompts_ = asked(
        german,
        "frage",
        ("ergab 7\nNächste Frage?", "Keine weitere."),
        ("Nächste Frage?", "4 – Wie alt ist Tom?"),
        ("Wie alt ist Tom?", "Ergebnis: 7"),
    )
    assert (answer, len(prompts_)) == ("7", 3)
    assert prompts_[-1] == "Problem: Wie viele?\nBekannt:\nNr. 4 (Wie alt ist Tom?) ergab 7\nNächste Frage?"


def test_a_branch_ends_with_the_line_that_gives_the_answer_in_the_model_s_words(
    german: tuple[PromptSet, PolicySet],
) -> None:
    answer, prompts_ = asked(
        german,
        "baum",
        ("Zu Ende?", "Ergebnis: 12"),
        ("3*4=12\nNächste", "Ergebnis: 12"),
        ("Nächste Zeile?", "3*4=12"),
    )
    assert (answer, len(prompts_)) == ("12", 3)
    assert prompts_[-1] == "Problem: Wie viele?\nBisher:\n3*4=12\nZu Ende?"


def test_a_critic_s_words_send_a_branch_back_and_end_it(german: tuple[PromptSet, PolicySet]) -> None:
    answer, prompts_ = asked(
        german,
        "baum-geprueft",
        ("Prüfe: Wie viele?\n3+4=7", "Zeile 1 stimmt nicht: es geht um ein Produkt"),
        ("Prüfe:", "richtig"),
        ("Falsch war:", "3*4=12"),
        ("3+4=7\nZu Ende?", "Ergebnis: 7"),
        ("3*4=12\nZu Ende?", "Ergebnis: 12"),
        ("=7\nNächste Zeile?", "Ergebnis: 7"),
        ("=12\nNächste Zeile?", "Ergebnis: 12"),
        ("Nächste Zeile?", "3+4=7"),
    )
    assert answer == "12"
    assert "Prüfe: Wie viele?\n3*4=12\nErgebnis: 12" in prompts_[-1]
    blamed = next(each for each in prompts_ if "Falsch war:" in each)
    assert "Falsch war:\n3+4=7\nErgebnis: 7\nDenn:\nZeile 1 stimmt nicht: es geht um ein Produkt" in blamed


def test_a_branch_that_was_cut_short_is_shown_with_its_answer_in_the_form_s_words() -> None:
    asks = {"check": Ask(form="pruefe", wording=Wording(answered="Ergebnis: {answer}"))}
    _, thought = played(
        STRATEGIES["tree_checked"],
        [("3*4=12", 0.9), ("12", 0.9), ("richtig", 0.9)],
        params={"snapshots": 1.0},
        asks=asks,
    )
    assert thought.steps[-1].fields["path"] == "3*4=12\nErgebnis: 12"


def test_a_criticised_path_is_told_of_its_trials_in_the_form_s_words(german: tuple[PromptSet, PolicySet]) -> None:
    answer, prompts_ = asked(
        german,
        "kritik",
        ("Kritik?", "Zeile 1 stimmt nicht: 3+4"),
        ("Nochmals.", "Ergebnis: 12"),
        ("Bekannt:", "weiß nicht"),
    )
    assert answer == "12"
    assert "Versuche:\nVersuch 1 ergab nichts: Zeile 1 stimmt nicht: 3+4\nNochmals." in prompts_[-1]


def test_a_candidate_is_chosen_in_the_model_s_words(german: tuple[PromptSet, PolicySet]) -> None:
    prompt_set, _ = german
    read = prompt_set.form("waehle").read("Kandidat B.", fields={"candidates": "A: 36\nB: 35"})
    assert read.answer == "35"
    assert prompt_set.form("waehle").read("candidate B", fields={"candidates": "A: 36\nB: 35"}).answer is None


def test_a_round_is_told_the_votes_of_another_in_the_form_s_words(german: tuple[PromptSet, PolicySet]) -> None:
    _, prompts_ = asked(german, "runden", ("Stimmen:", "Ergebnis: 12"), ("Bekannt:", "Ergebnis: 7"))
    assert "Stimmen:\n7 hatte eine Stimme\n" in prompts_[-1]


def test_calls_are_made_until_the_model_says_in_its_words_that_there_is_none(
    german: tuple[PromptSet, PolicySet],
) -> None:
    prompt_set, _ = german
    asks = {
        "argument": Ask(form="argument", wording=prompt_set.form("argument").words),
        "whole": Ask(form="denke", wording=prompt_set.form("denke").words),
    }
    comings = [("Lampe", 1.0), ("an", 1.0), ("Nichts.", 1.0), ("hell", 0.9)]
    end, thought = played(STRATEGIES["act"], comings, params={"calls": 4.0}, asks=asks)
    assert end == Conclude(3, 0.9)
    assert thought.steps[-1].fields["earlier_in_full"] == "Lampe ergab an"
    failed = [*comings[:1], (None, 0.0), *comings[2:]]
    assert played(STRATEGIES["act"], failed, asks=asks)[1].steps[-1].fields["earlier"] == "Lampe ergab nichts"


def test_votes_on_splits_and_blames_go_by_the_words_of_their_forms(german: tuple[PromptSet, PolicySet]) -> None:
    prompt_set, _ = german
    plans = ["Gern:\n1 – wie  alt?", "1 – Wie alt?", "2 – Wie alt?"]
    first, second, third = rule_of(_ask(prompt_set, "teile", "plan"))(plans)
    assert first == second != third
    first, second, third, silent = rule_of(_ask(prompt_set, "pruefe", "blame"))(
        ["Zeile 2 stimmt nicht: a", "zeile 2 stimmt nicht".capitalize(), "Richtig", "step 2 is wrong"]
    )
    assert (first, second, third, silent) == ("2", "2", "richtig", "")


def _ask(prompt_set: PromptSet, form: str, equivalence: str) -> Ask:
    return Ask(form=form, equivalence=equivalence, wording=prompt_set.form(form).words)


def test_a_policy_carries_the_words_of_its_forms_and_another_wording_is_another_policy(
    german: tuple[PromptSet, PolicySet], tmp_path: Path
) -> None:
    prompt_set, found = german
    policy = found.find("kritik")
    assert policy is not None
    assert policy.asks["whole"].words.trial == "Versuch {number} ergab {answer}: {criticism}"  # of its program's form
    assert policy.asks["whole"].words.known_in_full == prompt_set.form("denke").words.known_in_full
    (tmp_path / "kritik.toml").write_text(POLICIES["kritik"])
    other = GERMAN.replace("Versuch {number} ergab", "Beim {number}. Mal kam heraus:")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "deutsch.toml").write_text(other)
    sets = prompts.available(tmp_path / "prompts", tools=TOOLS)
    again = policies.load(tmp_path, prompt_sets=sets)[0].find("kritik")
    assert again is not None
    assert again.digest != policy.digest
    plan = PlanMade(
        request_id=made.REQUEST_ID,
        question="Wie viele?",
        arm="default",
        propensity=1.0,
        policy=policy,
        steps=(Step(index=0, fields={"question": "Wie viele?"}),),
        deadline_ms=made.NOW_MS,
    )
    assert codec.decode(topic_of(PlanMade), codec.versioned_type(PlanMade), codec.encode(plan)) == plan


def test_the_sets_that_ship_are_in_the_words_of_every_event_that_says_none() -> None:
    """So nothing of them travels, and what lies in logs and records means what it meant."""
    assert [found.policy.name for found in policies.shipped() if _worded(found.policy)] == []
    assert msgspec.json.decode(b'{"form":"direct"}', type=Ask).words == Wording()
    assert b"wording" not in msgspec.json.encode(Ask(form="direct"))


def _worded(policy: Policy) -> bool:
    return any(ask.wording is not UNSET for ask in policy.asks.values())


_BAD = [
    ('no_cal = "x"', ["wording", "no_cal", "no_call"]),
    ("no_call = 3", ["wording", "`str`"]),
    ("no_call = '('", ["wording.no_call", "RE2"]),
    ("no_call = '(?=a)'", ["wording.no_call", "RE2"]),
    ("part = '(?P<number>.): .*'", ["wording.part", "(?P<text>"]),
    ("blames = 'falsch'", ["wording.blames", "(?P<step>"]),
    ("blames = '(?P<step>.)(?P<why>.*)'", ["wording.blames", "why", "step"]),
    ('known = "{nummer}"', ["wording.known", "{number}, {answer}"]),
    ('known = "{number!r}"', ["wording.known", "plain fields"]),
    ('known = "{"', ["wording.known", "braces doubled"]),
    (f'known = "{"x" * 1_001}"', ["wording.known", "1,000"]),
    ('known = ""', ["wording", "length >= 1"]),
]


@pytest.mark.parametrize(("line", "named"), _BAD, ids=range(len(_BAD)))
def test_wrong_words_are_refused_with_file_form_word_and_what_was_expected(
    tmp_path: Path, line: str, named: list[str]
) -> None:
    (tmp_path / "bad.toml").write_text(f'[forms.a]\nuser = "{{question}}"\n[forms.a.wording]\n{line}\n')
    with pytest.raises(Exception, match=r"bad\.toml \[forms\.a\]") as raised:
        prompts.available(tmp_path, tools=TOOLS)
    assert [each for each in named if each not in str(raised.value)] == []


def test_a_policy_may_not_say_the_words_of_its_forms(tmp_path: Path) -> None:
    (tmp_path / "eigen.toml").write_text(
        'prompt_set = "reasoner-v3"\n[asks.whole]\nform = "direct"\nwording = { content = "x" }\n'
    )
    _, (problem,) = policies.load(tmp_path)
    assert (problem.field, "those of its form" in problem.expected) == ("asks.whole.wording", True)


def test_the_words_of_several_forms_are_those_of_whichever_says_them() -> None:
    one, other = Wording(trial="{answer}"), Wording(content="gut")
    assert together([one, other]) == structs.replace(one, content="gut")
    assert together([]) == Wording()
