"""`python -m tests.bench`: run, print a table and one JSON line; with --gate exit 1 when the budget is missed."""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from . import cpu, targets
from .driver import Load, Outcome, drive

PROSE: Final = "Tell me, please, in a few words what a gateway is for. "


@dataclass(frozen=True)
class Scenario:
    """One kind of load, and the greatest ratio to the bare relay that the budget allows."""

    name: str
    connections: int
    budget: float
    stream: bool = False
    gap_ms: int = 0
    fill: int = 0

    def request(self, port: int) -> bytes:
        text = PROSE + (f"[[gap={self.gap_ms} events=50]]" if self.stream else "")
        history = [{"role": ("user", "assistant")[i % 2], "content": PROSE * 18} for i in range(self.fill // 1000)]
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            *history,
            {"role": "user", "content": text},
        ]
        document: dict[str, Any] = {
            "model": "bench-model",
            "messages": messages,
            "temperature": 0.7,
            "max_tokens": 256,
        }
        if self.stream:
            document |= {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(document).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {targets.KEY}\r\nContent-Type: application/json\r\n"
            f"Accept: */*\r\nUser-Agent: bench/1\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


SCENARIOS: Final = (
    Scenario("ns16", 16, 0.60),
    Scenario("ns64", 64, 0.60),
    Scenario("big16", 16, 0.70, fill=64000),
    Scenario("sse64", 64, 0.80, stream=True, gap_ms=20),
    Scenario("burst16", 16, 1.00, stream=True),
)


@dataclass
class Sample:
    """One measured run: CPU microseconds per request (or event), and what came back."""

    microseconds: float
    outcome: Outcome


async def measure(target: targets.Target, scenario: Scenario, seconds: float) -> Sample:
    pids = cpu.tree(target.pid)
    load = Load(scenario.request(target.port), scenario.connections, seconds, scenario.stream)
    before = cpu.cpu_seconds(pids)
    outcome = await drive(target.port, load)
    used = cpu.cpu_seconds(pids) - before
    return Sample(used * 1e6 / max(outcome.events if scenario.stream else outcome.requests, 1), outcome)


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3 if values else 0.0


def row(samples: list[Sample]) -> dict[str, Any]:
    costs = [s.microseconds for s in samples]
    latency = [x for s in samples for x in s.outcome.latency]
    first = [x for s in samples for x in s.outcome.first_byte]
    return {
        "cpu_us": round(statistics.median(costs), 1),
        "cpu_us_min": round(min(costs), 1),
        "requests": sum(s.outcome.requests for s in samples),
        "events": sum(s.outcome.events for s in samples),
        "p50_ms": round(percentile(latency, 0.5), 2),
        "p99_ms": round(percentile(latency, 0.99), 2),
        "first_byte_p50_ms": round(percentile(first, 0.5), 2),
        "first_byte_p99_ms": round(percentile(first, 0.99), 2),
        "errors": sum(s.outcome.errors for s in samples),
        "first_error": next((s.outcome.first_error for s in samples if s.outcome.first_error), ""),
    }


def paired_ratio(base: list[Sample], ours: list[Sample]) -> float:
    """The median over the rounds of ours to the relay's cost in the same round: the speed of a shared core drifts by a
    third within a minute, but hardly between two runs of a second that follow each other."""
    return round(statistics.median(o.microseconds / b.microseconds for b, o in zip(base, ours, strict=True)), 3)


def show(scenario: Scenario, rows: dict[str, dict[str, Any]], ratio: float) -> None:
    unit = "event" if scenario.stream else "request"
    print(f"\n{scenario.name}: CPU us per {unit}, {scenario.connections} connections")
    print(f"  ratio x{ratio:.2f} (median of the rounds), budget x{scenario.budget:.2f}")
    print("  target                 cpu us      min   p50 ms   p99 ms ttfb p99 errors")
    for name, r in rows.items():
        print(
            f"  {name:20} {r['cpu_us']:8.1f} {r['cpu_us_min']:8.1f} {r['p50_ms']:8.2f} {r['p99_ms']:8.2f}"
            f" {r['first_byte_p99_ms']:8.2f} {r['errors']:6}  {r['first_error'][:80]}"
        )


async def run(arguments: argparse.Namespace) -> int:
    wanted = arguments.scenarios.split(",") if arguments.scenarios else [s.name for s in SCENARIOS]
    scenarios = [s for s in SCENARIOS if s.name in wanted]
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisix-bench-")))
        upstream = await stack.enter_async_context(targets.upstream(directory))
        measured = [
            await stack.enter_async_context(targets.bare_relay(directory, upstream)),
            await stack.enter_async_context(targets.gateway(directory, upstream)),
        ]
        os.sched_setaffinity(0, {targets.LOAD_CORE})
        idle = {t.name: round(cpu.rss_megabytes(cpu.tree(t.pid)), 1) for t in measured}
        samples: dict[str, dict[str, list[Sample]]] = {s.name: {t.name: [] for t in measured} for s in scenarios}
        for scenario in scenarios:
            print(f"{scenario.name}: {arguments.rounds} rounds", file=sys.stderr)
            for target in measured:  # connections, caches and the allocator warm
                await measure(target, scenario, 1.0)
            for _ in range(arguments.rounds):
                for target in random.sample(measured, len(measured)):
                    seconds = arguments.seconds * (3 if scenario.gap_ms else 1)  # a paced stream takes a second alone
                    samples[scenario.name][target.name].append(await measure(target, scenario, seconds))
        loaded = {t.name: round(cpu.rss_megabytes(cpu.tree(t.pid)), 1) for t in measured}
        ready = {t.name: round(t.ready_seconds, 2) for t in measured}
    return report(scenarios, samples, {"rss_idle_mb": idle, "rss_after_mb": loaded, "ready_s": ready}, arguments.gate)


def report(
    scenarios: list[Scenario], samples: dict[str, dict[str, list[Sample]]], extra: dict[str, Any], gate: bool
) -> int:
    """Print tables and the JSON line. Returns the exit code."""
    result: dict[str, Any] = {"scenarios": {}, **extra}
    missed = []
    for scenario in scenarios:
        rows = {name: row(runs) for name, runs in samples[scenario.name].items()}
        base, ours = list(rows)
        ratio = paired_ratio(samples[scenario.name][base], samples[scenario.name][ours])
        show(scenario, rows, ratio)
        result["scenarios"][scenario.name] = {"ratio": ratio, "budget": scenario.budget, **rows}
        if ratio > scenario.budget or rows[ours]["errors"]:
            missed.append(f"{scenario.name} x{ratio} (budget x{scenario.budget}), {rows[ours]['errors']} errors")
    for name, values in extra.items():
        print(f"{name}: {values}")
    for line in missed:
        print(f"over budget: {line}")
    print(json.dumps(result))
    return 1 if gate and missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.8, help="length of one run (paced streams: three times it)")
    parser.add_argument("--scenarios", default="", help=f"of {','.join(s.name for s in SCENARIOS)} (default: all)")
    parser.add_argument("--gate", action="store_true", help="exit 1 when a ratio is over its budget")
    if sys.platform != "linux":
        parser.error("CPU time is read from /proc: Linux only")
    return int(uvloop.run(run(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
