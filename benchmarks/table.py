"""`python -m benchmarks.table`: what was measured last, beside what it should be; written to docs/reference/measures.md.

A row is a figure among benchmarks/results, where the command beside it wrote it with commit and hardware. One that nobody has
recorded says so. Figures of different days were taken on machines that differ by several times: compare ratios.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from benchmarks.measuring import result_path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "measures.md"
_HEAD = """# What is measured
Written by `python -m benchmarks.table` from `benchmarks/results/`: what each command recorded last, beside what we want.
Machines are shared and differ by several times from day to day, so ratios, taken in turns in one run, say more than figures.

| measure | last | wanted | by | on |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: in which result it stands, where in it, and what it should be."""

    measure: str
    wanted: str
    command: str
    result: str
    at: tuple[str, ...]
    unit: str = ""


ROWS = (
    Row("questions/s ÷ bare `LLM.generate`, 8 samples", "≥ 0.9", "against_vllm", "against_vllm", ("ratio",)),
    Row("the same ÷ `LLM.generate` in batches of 64 sequences", "≥ 1.3", "against_vllm", "against_vllm", ("ratio_to_batches",)),
    Row("questions/s ÷ bare `LLM.generate`, on a GPU", "≥ 0.97", "against_vllm", "against_vllm_gpu", ("ratio",)),
    Row("the same ÷ `LLM.generate` in batches of 64 sequences", "≥ 1.3", "against_vllm", "against_vllm_gpu",
        ("ratio_to_batches",)),
    Row("CPU a path, engine in the core's process", "", "engine_worker", "engine_worker",
        ("cpu_ms_a_path", "in the engine core"), " ms"),
    Row("`conclave capacity`, paths/s of two of each service, off by", "± 15 %", "scale", "scale",
        ("errors_percent", "2 of each: paths/s"), " %"),
    Row("the same of four of each", "± 15 %", "scale", "scale", ("errors_percent", "4 of each: paths/s"), " %"),
    Row("prompt tokens cached over a conversation's turns, two decoders", "", "conversations", "conversations",
        ("cached_percent", "a decoder for each conversation"), " %"),
    Row("the same without its tag", "", "conversations", "conversations", ("cached_percent", "any decoder"), " %"),
    Row("CPU of vLLM's front for a token, read at its path's end", "", "reading", "reading",
        ("cpu_us_a_token", "at its end"), " µs"),
    Row("the same ÷ read as it comes", "", "reading", "reading", ("at_its_end_of_as_it_comes",)),
    Row("price of the drawn token's log probability", "", "logprobs", "logprobs", ("of_none", "drawn"), " of tokens/s"),
    Row("stored paths/s, scripted engine", "≥ 7,000", "pipeline", "throughput",
        ("medians_per_s", "stored paths/s, whole pipeline")),
    Row("CPU of a stored path, all processes, at saturation", "≤ 260 µs", "pipeline", "throughput",
        ("cpu_us_a_path", "all"), " µs"),
    Row("the same at 60 paths/s that end at once", "≤ 2,000 µs", "pipeline", "overhead",
        ("at_a_trickle", "ended at once", "cpu_us_a_path", "all"), " µs"),
    Row("the same at 60 paths/s that end in 2 s, each on its own", "", "pipeline", "overhead",
        ("at_a_trickle", "ended in 2000 ms", "cpu_us_a_path", "all"), " µs"),
    Row("transactions of the decoder for a request of those, 8 paths", "", "pipeline", "overhead",
        ("at_a_trickle", "ended in 2000 ms", "transactions_a_request", "decoder")),
    Row("CPU of the stack while nothing is asked, by as many paths", "", "pipeline", "overhead",
        ("at_a_trickle", "idle", "cpu_us_a_path", "all"), " µs"),
    Row("bytes of a path in the log, lz4, one request at a time", "halved", "wire", "wire",
        ("at a trickle", "compressed", "lz4", "bytes")),
    Row("the same, uncompressed", "", "wire", "wire", ("at a trickle", "compressed", "none", "bytes")),
    Row("the same, lz4, 200 requests at once", "", "wire", "wire", ("all at once", "compressed", "lz4", "bytes")),
    Row("stored paths/s ÷ commit 13be01c", "≥ 1", "against_commit", "against_commit", ("now_over_before", "stored paths/s")),
    Row("sequences running by pressure, long tails, short cache (a model of an engine): deviation", "", "in_flight", "in_flight",
        ("played", "long-tailed, cache of 12000 tokens, by pressure", "deviation")),
    Row("the same with a fixed number", "", "in_flight", "in_flight",
        ("played", "long-tailed, cache of 12000 tokens, fixed", "deviation")),
    Row("overhead at 20 requests/s, p50", "≤ 20 ms", "pipeline", "overhead", ("p50_ms",), " ms"),
    Row("overhead at 20 requests/s, p99", "≤ 40 ms", "pipeline", "overhead", ("p99_ms",), " ms"),
    Row("overhead at 20 requests/s ÷ commit 13be01c, p50", "≤ 1", "against_commit", "against_commit",
        ("now_over_before", "overhead p50, ms")),
    Row("overhead at 20 requests/s ÷ commit 13be01c, p99", "≤ 1", "against_commit", "against_commit",
        ("now_over_before", "overhead p99, ms")),
    Row("start ÷ commit 13be01c", "≤ 1", "against_commit", "against_commit", ("now_over_before", "start, s")),
    Row("longest time without an answer while all is restarted, two of each service", "< 1 s", "disturbed --restarts", "restarts",
        ("longest_silence_s", "2 of each"), " s"),
    Row("answers/s while processes die ÷ undisturbed", "≥ 0.3", "disturbed", "disturbed", ("with_ids_of_calm",)),
    Row("ballots/s of the vote alone, one core", "≥ 20,000", "voter", "voter", ("in_domain", "adaptive_consistency")),
    Row("ballots/s of one voter through Kafka", "≥ 2,000", "voter_kafka", "voter_kafka", ("ballots_per_s",)),
    Row("a budget of 40, live: share of the full vote's tokens", "≤ 0.25", "vote_live", "vote_live", ("share_of_tokens",)),
    Row("a budget of 40, live: points against the full vote", "≥ -0.5", "vote_live", "vote_live", ("change_points",)),
    *(
        Row(f"right answers/s of `confident`, 16 paths at most ÷ {name}", "≥ 3", "against_others", "against_others",
            ("right_answers_s_of", "16", "conclave, confident", way))
        for way, name in (
            ("its_hub, self-consistency", "its_hub's self-consistency"),
            ("its_hub, beta self-consistency", "its_hub's adaptive one"),
            ("optillm, self_consistency", "optillm's `self_consistency`"),
            ("optillm, majority_voting", "optillm's `majority_voting`"),
        )
    ),
    Row("recorded paths/s, in large batches", "≥ 5,000", "recording", "recording", ("paths_s",)),
    Row("recorder's rows/s ÷ bare COPY of the same rows", "≥ 0.6", "recording", "recording", ("rows_s_of_bare_copy",)),
    Row("wrong answers fewer by going back, `tree-checked`", "≥ 27 %", "going_back", "going_back",
        ("policies", "tree-checked", "fewer_wrong_pct"), " %"),
    Row("schedules a minute on a core", "", "simulated", "simulated", ("schedules_a_minute_on_a_core",)),
    Row("of the runtime, reached by schedules", "≥ 95 %", "simulated", "simulated", ("runtime_covered_pct",), " %"),
    Row("faults planted in the runtime", "", "simulated", "simulated", ("num_faults_planted",)),
    Row("those that schedules find", "all", "simulated", "simulated", ("num_faults_found",)),
    Row("paraphrases that are known again", "≥ 0.6", "cache", "cache", ("known_again", "known")),
    Row("near-twins that are taken for known, of 10,000", "0", "cache", "cache", ("known_again", "wrong_reuses")),
    Row("rise of accepted answers by reweighting alone", "≥ 22 %", "learning_live", "learning_live", ("rise_pct",), " %"),
    Row("lost by types of task that borrow ÷ each on its own, types alike", "< 1", "segments", "segments",
        ("alike", "borrowed of", "each on its own")),
    Row("the same, any arm may be a type's best", "≤ 1.05", "segments", "segments",
        ("any arm may be the best", "borrowed of", "each on its own")),
    Row("the same ÷ one belief for all types", "< 1", "segments", "segments",
        ("any arm may be the best", "borrowed of", "one for all")),
    Row("vLLM's start through our engine ÷ bare", "≤ 1.10", "engine_start", "engine_start", ("engine_start_ratio",)),
)  # fmt: skip


def page() -> str:
    """The page's text."""
    return _HEAD + "\n".join(_line(row) for row in ROWS) + "\n"


def _line(row: Row) -> str:
    try:
        found: Mapping[str, Any] = json.loads(result_path(row.result).read_text())
        value: Any = reduce(lambda part, key: part[key], row.at, found)
    except (FileNotFoundError, KeyError):
        return f"| {row.measure} | *not recorded* | {row.wanted} | `benchmarks.{row.command}` | |"
    hardware = found["hardware"]
    gpu = f", {hardware['gpu']}" if "gpu" in hardware else ""
    where = f"{found['commit']}, {found['at'][:10]}, {hardware['cores']} cores of {hardware['cpu']}{gpu}"
    told = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"| {row.measure} | {told}{row.unit} | {row.wanted} | `benchmarks.{row.command}` | {where} |"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
