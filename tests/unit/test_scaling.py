"""How many processes are wanted: the law, and the command that looks at a stack for it."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from conclave.cli import scaling as command
from conclave.cli.scaling import Look, seen, service_of
from conclave.domain.scaling import Seen, Why, wanted


def _seen(processes: int = 2, **changed: float) -> Seen:
    """Two processes that do 50 a second each when they are wholly busy, and are so for six tenths."""
    values = {"partitions": 24, "done_per_s": 60.0, "growth_per_s": 0.0, "lag": 20.0, "busy": 0.6, **changed}
    return Seen(
        processes,
        int(values["partitions"]),
        values["done_per_s"],
        values["growth_per_s"],
        values["lag"],
        values["busy"],
    )


def test_a_service_that_carries_what_comes_keeps_its_processes() -> None:
    assert wanted(_seen()) == (2, Why.CARRIES)


@pytest.mark.parametrize(
    ("of", "number"),
    [
        (_seen(busy=1.0, done_per_s=100.0), 3),  # as much as they can: at seven tenths of it three would
        (_seen(growth_per_s=40.0), 3),  # 100 come, and 35 is what one may be given
        (_seen(lag=12_000.0), 5),  # 60 come, and 100 a second more are to be done for two minutes
    ],
)
def test_more_are_wanted_for_what_comes_and_for_what_lies_there(of: Seen, number: int) -> None:
    assert wanted(of) == (number, Why.MORE)


def test_a_burst_that_is_nearly_over_needs_nothing() -> None:
    assert wanted(_seen(lag=500.0, growth_per_s=-20.0)) == (2, Why.CARRIES)


def test_fewer_are_wanted_only_where_they_would_have_room_to_spare() -> None:
    assert wanted(_seen(processes=4, busy=0.3)) == (3, Why.FEWER)  # 50 a second each: 60 need 1.7, with room 2.1
    assert wanted(_seen(processes=3, busy=0.4)) == (3, Why.CARRIES)
    assert wanted(_seen(busy=0.1, done_per_s=10.0)) == (1, Why.FEWER)


def test_more_than_there_are_partitions_are_not_wanted_but_told() -> None:
    assert wanted(_seen(lag=50_000.0, partitions=4)) == (4, Why.PARTITIONS)


def test_of_a_service_that_does_nothing_nothing_is_known() -> None:
    assert wanted(_seen(done_per_s=0.0, lag=0.0)) == (2, Why.IDLE)
    assert wanted(_seen(done_per_s=0.0, lag=900.0)) == (2, Why.STANDS)
    assert wanted(_seen(done_per_s=0.1, busy=0.001)) == (2, Why.IDLE)


@pytest.mark.parametrize("done", [7e-305, 5e-324])
def test_of_next_to_nothing_that_is_done_no_number_follows_but_the_partitions(done: float) -> None:
    assert wanted(Seen(8, 4, done, 8830.0, 0.0, 0.5)) == (8, Why.PARTITIONS)
    assert wanted(Seen(1, 4, done, 8830.0, 0.0, 0.5)) == (4, Why.PARTITIONS)


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 1e5),
    st.floats(-1e5, 1e5),
    st.floats(0, 1e7),
    st.floats(0, 1),
    st.floats(0, 1e5),
)
def test_more_that_comes_never_wants_fewer_and_never_more_than_partitions(
    processes: int, partitions: int, done: float, growth: float, lag: float, busy: float, more: float
) -> None:
    number, _ = wanted(Seen(processes, partitions, done, growth, lag, busy))
    larger, _ = wanted(Seen(processes, partitions, done, growth + more, lag, busy))
    assert 1 <= number <= larger <= max(processes, partitions)


def _look(
    at: float, done: float, lag: float, cpu_s: float, filled: float | None = None, partitions: Sequence[str] = ("0",)
) -> Look:
    return Look(at, done, {("reasoning.samples", each): lag for each in partitions}, cpu_s, filled)


def test_a_service_is_what_all_its_processes_do() -> None:
    found = seen(
        [
            [_look(0, 0, 10, 1.0), _look(5, 0, 10, 1.0), _look(10, 300, 30, 6.0)],
            [_look(0, 100, 0, 0.0, partitions=("1", "2")), _look(10, 400, 20, 3.0, partitions=("1", "2"))],
        ]
    )
    assert found == Seen(processes=2, partitions=3, done_per_s=60.0, growth_per_s=5.8, lag=67.0, busy=0.4)


def test_a_decoder_is_as_busy_as_its_engine_is_full() -> None:
    looks = [_look(0, 0, 0, 0.0, 0.5), _look(5, 100, 0, 0.5, 1.0), _look(10, 200, 0, 1.0, 0.9)]
    assert seen([looks]).busy == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("name", "service"),
    [("decoder", "decoder"), ("decoder-2", "decoder"), ("voter-11", "voter"), ("kafka", None), ("my-service", None)],
)
def test_processes_are_known_by_the_names_that_a_stack_gives_them(name: str, service: str | None) -> None:
    assert service_of(name) == service


@contextmanager
def _process(ready: Mapping[str, object], metrics: Sequence[str]) -> Iterator[str]:
    """The URL of a process that says one text after the other at /metrics, and the last one from then on."""
    left = list(metrics)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = json.dumps(ready) if self.path == "/ready" else left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _metrics(done: int, lag: int, *, partitions: int = 16) -> str:
    lines = ["# TYPE conclave_lag gauge"]
    lines += [
        f'conclave_lag{{topic="reasoning.samples",partition="{at}"}} {lag // partitions}' for at in range(partitions)
    ]
    lines += ["# TYPE conclave_messages counter"]
    lines += [f'conclave_messages_total{{topic="reasoning.samples",outcome="done"}} {done}']
    lines += ['conclave_messages_total{topic="reasoning.control",outcome="done"} 77777']
    return "\n".join([*lines, "# TYPE process_cpu_seconds counter", "process_cpu_seconds_total 1.5", ""])


def test_the_command_tells_what_each_service_needs_and_fails_where_one_needs_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter(float(each) for each in range(0, 1000, 10))
    monkeypatch.setattr(command, "monotonic", lambda: next(moments))
    full = {"engine_running": 8, "engine_limit": 8, "engine_waiting": 3}
    with _process(full, [_metrics(1000, 400), _metrics(1100, 800)]) as url:
        result = CliRunner().invoke(command.scaling, ["--seconds", "0.01", "--process", f"decoder={url}", "--json"])
    assert result.exit_code == 1, result.output
    assert json.loads(result.output) == {
        "decoder": {
            "processes": 1,
            "wanted": 9,  # 10 a second were done, 50 come, and 6.5 more for two minutes; one may be given 7
            "done_per_s": 10.0,
            "lag": 784,
            "lag_growth_per_s": 40.0,
            "busy": 1.0,
            "why": Why.MORE.value,
        }
    }


def test_the_command_says_where_it_found_no_process() -> None:
    result = CliRunner().invoke(command.scaling, ["--seconds", "0.01", "--process", "decoder=http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "no process of a service answers here" in result.output
    result = CliRunner().invoke(command.scaling, ["--process", "teller=http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert "expected SERVICE=http://…" in result.output


async def test_what_does_not_answer_is_left_out() -> None:
    with _process({}, [_metrics(1, 0)]) as url:
        found = await command.watched({"decoder": url, "voter": "http://127.0.0.1:9"}, 0.01)
    assert list(found) == ["decoder"]
