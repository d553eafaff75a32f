"""Runs steps one after the other, each in its own time. What is known so far is on disk after every one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .summary import render

ROOT = Path(__file__).resolve().parents[2]
GRACE = 5.0  # seconds between asking a step to end and making it
HEAD = 12  # lines of a problem that the summary shows
PASSED, FAILED, TIMED_OUT, NOT_RUN, RUNNING = "passed", "failed", "timed out", "not run", "running"


@dataclass
class Outcome:
    """What the judge of a step says. It passed where there is no problem."""

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    data: dict = field(default_factory=dict)  # joins the results


@dataclass(frozen=True)
class Places:
    out: Path  # the results, to be kept
    work: Path  # for files that a step leaves to its judge


def exit_code(places: Places, code: int, said: str) -> Outcome:
    """The judge of a step that says all by its exit code."""
    if code == 0:
        return Outcome()
    return Outcome([f"exit code {code}\n{tail(said)}"])


@dataclass(frozen=True)
class Step:
    """A command with a time of its own; what the steps before it did not use is added."""

    name: str
    seconds: float
    log: str  # a file of the results; steps may share one
    command: Callable[[Places], list[str]]
    judge: Callable[[Places, int, str], Outcome] = exit_code
    needs: str = ""  # a step without which this one would check something else
    environment: dict[str, str] = field(default_factory=dict)


def tail(text: str, lines: int = HEAD) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def run(steps: list[Step], out: Path, results: dict, start: float) -> int:
    """All steps, into `out`; `start` is when the time of the first began, by time.monotonic(). Gives the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    for log in {step.log for step in steps}:
        (out / log).unlink(missing_ok=True)
    results["steps"] = []
    with tempfile.TemporaryDirectory() as work:
        places = Places(out, Path(work))
        for step, deadline in zip(steps, deadlines(steps, start), strict=True):
            entry = {"name": step.name, "status": RUNNING, "seconds": None, "limit": None, "log": step.log}
            entry |= {"counts": {}, "problems": [], "notes": []}
            results["steps"].append(entry)
            write(out, results)
            missing = [e["name"] for e in results["steps"] if e["name"] == step.needs and e["status"] != PASSED]
            if missing:
                entry |= {"status": NOT_RUN, "problems": [f"needs the step {step.needs}"]}
            else:
                run_step(step, places, deadline - time.monotonic(), entry, results)
            say(entry)
            write(out, results)
    bad = [entry for entry in results["steps"] if entry["status"] != PASSED]
    results["status"] = FAILED if bad else PASSED
    results["seconds"] = round(time.monotonic() - start, 1)
    write(out, results)
    return 1 if bad else 0


def deadlines(steps: list[Step], start: float) -> list[float]:
    ends, end = [], start
    for step in steps:
        end += step.seconds
        ends.append(end)
    return ends


def run_step(step: Step, places: Places, limit: float, entry: dict, results: dict) -> None:
    begin = time.monotonic()
    entry["limit"] = round(limit, 1)
    try:
        command = step.command(places)
        code, said = execute(command, step, places.out / step.log, limit)
        outcome = step.judge(places, code or 0, said)
    except Exception as error:  # whatever is wrong with one step, the next one goes on
        code, outcome = 1, Outcome([f"{type(error).__name__}: {error}"])
    if code is None:
        outcome.problems.insert(0, f"stopped after {limit:.0f} s\n{tail(said)}")
    entry["seconds"] = round(time.monotonic() - begin, 1)
    entry["status"] = TIMED_OUT if code is None else FAILED if outcome.problems else PASSED
    entry |= {"counts": outcome.counts, "problems": outcome.problems, "notes": outcome.notes}
    results |= outcome.data


def execute(command: list[str], step: Step, log: Path, limit: float) -> tuple[int | None, str]:
    """Exit code (None: stopped at its limit) and what it said. It is asked to end first: pytest then still reports."""
    with log.open("ab") as file:
        file.write(f"\n===== {step.name}: {' '.join(command)}\n".encode())
        file.flush()
        begin = file.tell()
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | step.environment
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **streams)
        code = None
        try:
            code = process.wait(max(limit - GRACE, limit / 2, 0))
        except subprocess.TimeoutExpired:
            signal_all(process, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(GRACE, max(limit / 2, 0)))
        finally:
            if code is None:
                signal_all(process, signal.SIGKILL)
                process.wait()
    with log.open("rb") as file:
        file.seek(begin)
        return code, file.read().decode(errors="replace")


def signal_all(process: subprocess.Popen, number: int) -> None:
    """To the step and all that it started: it leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def write(out: Path, results: dict) -> None:
    replace(out / "results.json", json.dumps(results, indent=1) + "\n")
    replace(out / "summary.md", render(results))


def replace(path: Path, text: str) -> None:
    """Whole or not at all, even if this program is killed meanwhile."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def say(entry: dict) -> None:
    counts = ", ".join(f"{number} {what}" for what, number in entry["counts"].items())
    seconds = "" if entry["seconds"] is None else f" in {entry['seconds']:.0f} s"
    print(f"{entry['name']}: {entry['status']}{seconds}{', ' + counts if counts else ''}", flush=True)
    for problem in entry["problems"][:3]:
        print("    " + "\n    ".join(problem.splitlines()[:HEAD]), file=sys.stderr, flush=True)
