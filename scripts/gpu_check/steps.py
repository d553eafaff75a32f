"""What is done on a GPU, in order, and in how many seconds: together they stay below nine minutes."""

import csv
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from itertools import dropwhile

from . import machine
from .runner import HEAD, ROOT, Outcome, Places, Step, tail

ON_GPU = ("tests/test_cuda.py", "tests/test_cuda_agreement.py")
# Whose fixtures run each op on each device.
PER_DEVICE = tuple(
    f"tests/test_{name}.py"
    for name in (
        *(
            "antialias",
            "backends",
            "blend",
            "interpolate",
            "rasterize",
            "rasterize_clip",
            "rasterize_rules",
            "rasterize_ndc",
            "masked_pixel_loss",
        ),
        *("neighbor_min_loss", "render_sh", "shade_sh", "vertex_normals"),
    )
)
DROP_INS = sorted(f"tests/{path.name}" for path in (ROOT / "tests").glob("test_compat_*.py"))
# NumPy in and out, no tensors at all, and rules that test_compat_nvdiffrast_texture.py tests on a GPU.
ON_THE_CPU = ("tests/test_compat_sim3dr.py", "tests/test_compat_install.py", "tests/test_compat_nvdiffrast_cube.py")
PER_DEVICE += tuple(file for file in DROP_INS if file not in ON_THE_CPU)
FUZZ = tuple(sorted(f"tests/{path.name}" for path in (ROOT / "tests").glob("test_fuzz_*.py")))
SHOWN = 10  # failures told in full
METRICS = ("gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum")
CLEAN = re.compile(r"SUMMARY: 0 (?:errors|hazards displayed)\b")
FINISHED = re.compile(r"^all \d+ calls agree with the CPU$", re.MULTILINE)


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def pytest(name: str, *arguments: str) -> Callable[[Places], list[str]]:
    """The tests of the GPU among what is asked for. Hangs show where: pytest prints all stacks after 60 seconds."""
    options = ["-v", "--tb=short", "-k", "cuda", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=60"]
    options += ["--continue-on-collection-errors"]
    return lambda places: python("-m", "pytest", *options, f"--junit-xml={places.work / name}.xml", *arguments)


def tests_passed(name: str) -> Callable[[Places, int, str], Outcome]:
    """Judges by what ran: tests that were all skipped have shown nothing."""

    def judge(places: Places, code: int, said: str) -> Outcome:
        file = places.work / f"{name}.xml"
        outcome = _from_junit(file) if file.exists() else _from_lines(said)
        if not outcome.counts.get("passed"):
            outcome.problems.insert(0, "no test passed" + "".join(f"; {note}" for note in outcome.notes))
        if code and not outcome.problems:
            outcome.problems.append(f"pytest ended with {code}\n{tail(said)}")
        return outcome

    return judge


def _from_junit(file) -> Outcome:
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    counts, reasons, problems = Counter(), Counter(), []
    for case in cases:
        bad = [node for node in case if node.tag in ("failure", "error")]
        skipped = case.find("skipped")
        counts["failed" if bad else "passed" if skipped is None else "skipped"] += 1
        if skipped is not None:
            reasons[skipped.get("message", "")] += 1
        for node in bad[:1]:
            lines = [node.get("message", ""), *tail(node.text or "").splitlines()]
            problems.append(f"{case.get('classname')}::{case.get('name')}\n" + "\n".join(lines[:HEAD]))
    notes = [f"{number} skipped: {reason}" for reason, number in reasons.most_common(5)]
    return Outcome(_first(problems), dict(counts), notes)


def _from_lines(said: str) -> Outcome:
    """Of a run that was killed before it could report."""
    words = re.findall(r"^\S+::\S.* (PASSED|FAILED|SKIPPED|ERROR)\b", said, re.MULTILINE)
    counts = Counter(word.lower() for word in words)
    counts["failed"] += counts.pop("error", 0)
    names = re.findall(r"^(\S+::\S.*) FAILED\b", said, re.MULTILINE)
    last = re.findall(r"^(\S+::\S.*?)(?: (?:PASSED|FAILED|SKIPPED|ERROR)\b.*)?$", said, re.MULTILINE)
    problems = [f"failed: {', '.join(names[:SHOWN])}"] if names else []
    problems.append(f"pytest gave no report; last seen: {last[-1].strip() if last else 'nothing'}")
    return Outcome(problems, {what: number for what, number in counts.items() if number})


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - SHOWN
    return problems if more <= 0 else [*problems[:SHOWN], f"and {more} more: see the log"]


def sanitizer(tool: str, *options: str) -> Callable[[Places], list[str]]:
    def command(places: Places) -> list[str]:
        program = machine.sanitizer()
        if program is None:
            raise FileNotFoundError("compute-sanitizer, which comes with the CUDA toolkit")
        checks = ["--tool", tool, "--error-exitcode", "86", "--report-api-errors", "no", *options]
        return [program, *checks, *python("tests/gpu_small.py")]

    return command


def sanitizer_clean(places: Places, code: int, said: str) -> Outcome:
    """Nothing found, and by a program that ran to its end: an early end is silent as well."""
    found = re.findall(r"^========= +((?!COMPUTE-SANITIZER|ERROR SUMMARY|RACECHECK SUMMARY)\S.*)", said, re.MULTILINE)
    summary = re.findall(r"^========= +((?:ERROR|RACECHECK) SUMMARY.*)", said, re.MULTILINE)
    problem = [f"exit code {code}; {'; '.join(summary) or 'no summary'}", *found[: HEAD // 2]]
    if not FINISHED.search(said):
        problem += ["tests/gpu_small.py did not reach its end:", *tail(said, HEAD // 3).splitlines()]
    clean = code == 0 and CLEAN.search(said) and FINISHED.search(said)
    return Outcome(
        [] if clean else ["\n".join(problem)],
        {"calls": len(re.findall(r": as on the CPU$", said, re.MULTILINE))},
        summary,
    )


def benchmarks_done(places: Places, code: int, said: str) -> Outcome:
    file = places.out / "bench.json"
    if not file.exists():
        return Outcome([f"no figures, exit code {code}\n{tail(said)}"])
    figures = json.loads(file.read_text(encoding="utf-8"))
    problems = [f"{entry['name']}\n{entry['error']}" for entry in figures["failed"]]
    if not figures["races"]:
        problems.append("nothing was timed")
    if code and not problems:
        problems.append(f"exit code {code}\n{tail(said)}")
    counts = {"timed": len(figures["races"]), "failed": len(figures["failed"])}
    notes = [f"left out: {name}: {why}" for name, why in figures["left_out"].items()]
    return Outcome(_first(problems), counts, notes, {"benchmarks": figures})


def profiler(places: Places) -> list[str]:
    """ncu where there is one: it reads how much memory each kernel really moves."""
    options = ["--csv", "--page", "raw", "--print-units", "base", "--profile-from-start", "off"]
    options += ["--clock-control", "none", "--metrics", ",".join(METRICS)]
    program = machine.beside_nvcc("ncu")
    return [*([program, *options] if program else []), *python("-m", "bench.once")]


def profile_read(places: Places, code: int, said: str) -> Outcome:
    """For information: a GPU may keep its counters from us."""
    lines = dropwhile(lambda line: not line.startswith('"ID"'), said.splitlines())
    rows = [row for row in csv.DictReader(lines) if (row.get("ID") or "").isdigit()]
    kernels = []
    for row in rows:
        name = re.search(r"\w+_kernel\b", row["Kernel Name"])
        us, read, written = (float((row.get(metric) or "0").replace(",", "")) for metric in METRICS)
        figures = {"us": us / 1e3, "MB_read": read / 1e6, "MB_written": written / 1e6}
        kernels.append({"kernel": name[0] if name else row["Kernel Name"][:60]} | figures)
    if not kernels:
        problems = [f"exit code {code}\n{tail(said)}"] if code and "ERR_NVGPUCTRPERM" not in said else []
        return Outcome(problems, {}, ["no counters: ncu is missing, or may not read them"])
    return Outcome([], {"kernels": len(kernels)}, [], {"kernels": kernels})


# Each tensor is an allocation of its own there, so that memcheck sees where it ends.
ALONE = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
OURS = ("--kernel-name", "kns=focus")  # racecheck and synccheck of torch's kernels are not our concern

#     name, seconds, log, command, judge
STEPS = [
    Step("build", 100, "build.log", lambda places: python("-m", "gpu_check.build")),
    Step("on the GPU", 60, "tests.log", pytest("gpu", *ON_GPU), tests_passed("gpu"), "build"),
    Step("contract", 45, "tests.log", pytest("contract", "tests/test_contract.py"), tests_passed("contract"), "build"),
    Step("each op", 45, "tests.log", pytest("ops", *PER_DEVICE), tests_passed("ops"), "build"),
    Step("memcheck", 40, "sanitizers.log", sanitizer("memcheck"), sanitizer_clean, "build", ALONE),
    Step("racecheck", 35, "sanitizers.log", sanitizer("racecheck", *OURS), sanitizer_clean, "build", ALONE),
    Step(
        "benchmarks",
        80,
        "bench.log",
        lambda places: python("-m", "bench.gpu", "--json", str(places.out / "bench.json")),
        benchmarks_done,
        "build",
    ),
    Step("profile", 15, "profile.log", profiler, profile_read, "build"),
    Step("synccheck", 20, "sanitizers.log", sanitizer("synccheck", *OURS), sanitizer_clean, "build", ALONE),
    # It has to see torch's kernels write what ours read.
    Step("initcheck", 20, "sanitizers.log", sanitizer("initcheck"), sanitizer_clean, "build", ALONE),
    Step(
        "past 2^31",
        10,
        "tests.log",
        pytest("sizes", "-m", "slow", "tests/test_sizes.py"),
        tests_passed("sizes"),
        "build",
    ),
]
if FUZZ and find_spec("hypothesis"):
    STEPS.append(Step("fuzz", 40, "tests.log", pytest("fuzz", *FUZZ), tests_passed("fuzz"), "build"))
PROBE_SECONDS = 20  # to look at the machine, before the first step; what is left of it goes to the steps
