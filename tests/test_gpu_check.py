"""scripts/gpu_check.sh, as far as it goes without a GPU: with stand-ins for its steps and for what they print."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_small import KERNELS_OF

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from gpu_check import machine, runner, steps, summary  # noqa: E402  (it is no package that is installed)
from gpu_check.__main__ import PROBE_SECONDS  # noqa: E402

GPU = {"name": "A", "capability": "9.0", "memory_GiB": 80, "multiprocessors": 132, "L2_MiB": 50.0}
MADE_UP = {"status": "running", "started": "today", "machine": {"gpus": [GPU], "driver": "1", "peers": []}}
PLACES = runner.Places(Path(), Path())


def step(name, code, seconds=20.0, **options):
    return runner.Step(name, seconds, "log.txt", lambda places: [sys.executable, "-c", code], **options)


def run(steps, out):
    code = runner.run(steps, out, dict(MADE_UP), time.monotonic())
    results = json.loads((out / "results.json").read_text())
    return code, results, {entry["name"]: entry for entry in results["steps"]}


def gone(pid):
    """Within five seconds; a zombie that nobody has asked after counts as gone."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    out = tmp_path / "out"
    command = ["bash", ROOT / "scripts" / "gpu_check.sh", out]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable}
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 2, answer
    assert re.fullmatch(r"gpu_check\.sh: no GPU to check: .+\n", answer.stderr) and not answer.stdout
    assert not out.exists()


def test_a_bad_step_is_told_and_the_next_one_goes_on(tmp_path):
    child = tmp_path / "child"
    hang = f"""
import subprocess, sys, time
print('begun', flush=True)
p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(child)!r}, 'w').write(str(p.pid))
time.sleep(60)
"""
    stand_ins = [
        step("hanging", hang, seconds=4.0),
        step("bad", "print('the reason'); raise SystemExit(3)"),
        step("needy", "print('never')", needs="bad"),
        runner.Step("broken", 1, "log.txt", lambda places: ["/nowhere/at/all"]),
        step("good", "print('fine')"),
    ]
    begin = time.monotonic()
    code, results, entries = run(stand_ins, tmp_path / "out")
    assert code == 1 and results["status"] == "failed" and time.monotonic() - begin < 30
    statuses = [entry["status"] for entry in entries.values()]
    assert statuses == ["timed out", "failed", "not run", "failed", "passed"]
    assert entries["bad"]["problems"] == ["exit code 3\nthe reason"]
    assert "FileNotFoundError" in entries["broken"]["problems"][0]
    assert entries["hanging"]["problems"][0].splitlines()[:2] == ["stopped after 4 s", "begun"]
    assert gone(int(child.read_text()))  # what it started is ended as well
    log, page = ((tmp_path / "out" / name).read_text() for name in ("log.txt", "summary.md"))
    assert "the reason" in log and "fine" in log and "===== good: " in log
    assert "**bad** (log.txt)" in page and "the reason" in page and "| hanging | timed out |" in page
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["log.txt", "results.json", "summary.md"]


def test_all_good(tmp_path):
    code, results, entries = run([step("one", "pass"), step("two", "pass")], tmp_path)
    assert code == 0 and results["status"] == "passed"
    assert entries["two"]["limit"] > 30  # it has what the first left over
    assert (tmp_path / "summary.md").read_text().startswith("# GPU check: passed\n")


def test_a_killed_run_leaves_what_it_knows_and_no_processes(tmp_path):
    code = f"""
import signal, sys, time
sys.path.insert(0, {str(ROOT / "scripts")!r})
from pathlib import Path
from gpu_check import runner
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
step = lambda name, code: runner.Step(name, 60, "log.txt", lambda places: [sys.executable, "-c", code])
hang = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
runner.run([step("one", "pass"), step("two", hang)], Path({str(tmp_path)!r}), {MADE_UP!r}, time.monotonic())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    log = tmp_path / "log.txt"
    for _ in range(300):
        found = re.search(r"===== two: .*\n(\d+)\n", log.read_text()) if log.exists() else None
        if found:
            break
        time.sleep(0.1)
    process.terminate()
    assert process.wait(20) == 143
    assert gone(int(found[1]))
    entries = json.loads((tmp_path / "results.json").read_text())["steps"]
    assert [entry["status"] for entry in entries] == ["passed", "running"]


def test_it_stays_below_nine_minutes():
    assert sum(one.seconds for one in steps.STEPS) + PROBE_SECONDS <= 540 - runner.GRACE
    assert len({one.log for one in steps.STEPS} | {"results.json", "summary.md", "bench.json"}) <= 8
    names = [one.name for one in steps.STEPS]
    assert all(one.needs in names[:k] for k, one in enumerate(steps.STEPS) if one.needs)


def junit(tmp_path, cases):
    (tmp_path / "x.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return steps.tests_passed("x")(runner.Places(tmp_path, tmp_path), 0, "")


SKIPPED = '<testcase classname="t" name="b"><skipped message="no CUDA device"/></testcase>'


def test_tests_that_were_all_skipped_have_failed(tmp_path):
    outcome = junit(tmp_path, SKIPPED)
    assert outcome.problems == ["no test passed; 1 skipped: no CUDA device"] and outcome.counts == {"skipped": 1}
    assert junit(tmp_path, "").problems == ["no test passed"]
    outcome = junit(tmp_path, SKIPPED + '<testcase classname="t" name="a"/>')
    assert not outcome.problems and outcome.counts == {"skipped": 1, "passed": 1}
    assert outcome.notes == ["1 skipped: no CUDA device"]


def test_failures_of_tests_are_named(tmp_path):
    bad = '<testcase classname="t" name="a[1]"><failure message="off by one">file:1\nmore</failure></testcase>'
    outcome = junit(tmp_path, bad * 12 + '<testcase classname="t" name="c"/>')
    assert outcome.counts == {"failed": 12, "passed": 1} and len(outcome.problems) == 11
    assert outcome.problems[0] == "t::a[1]\noff by one\nfile:1\nmore" and "2 more" in outcome.problems[-1]


def test_a_run_of_tests_that_was_killed():
    said = (
        "tests/a.py::b[1 2] PASSED [ 1%]\ntests/a.py::c FAILED [ 2%]\ntests/a.py::d SKIPPED (no) [ 3%]\ntests/a.py::e "
    )
    outcome = steps.tests_passed("nothing")(PLACES, 1, said)
    assert outcome.counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert outcome.problems == ["failed: tests/a.py::c", "pytest gave no report; last seen: tests/a.py::e"]


END = "vertex_normals, torch.float32: as on the CPU\nall 1 calls agree with the CPU\n"
NAME = "========= COMPUTE-SANITIZER\n"


@pytest.mark.parametrize(
    "last", ["ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"]
)
def test_sanitizer_is_clean(last):
    outcome = steps.sanitizer_clean(PLACES, 0, NAME + END + f"========= {last}\n")
    assert not outcome.problems and outcome.counts == {"calls": 1} and outcome.notes == [last]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (86, NAME + "========= Invalid __global__ read\n" + END + "========= ERROR SUMMARY: 1 error\n"),
        (0, NAME + END + "========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)\n"),
        (0, NAME + END),
        (0, NAME + "no CUDA device\n========= ERROR SUMMARY: 0 errors\n"),
        (1, NAME + "Traceback: no\n========= ERROR SUMMARY: 0 errors\n"),
        (0, ""),
    ],
)
def test_sanitizer_is_not_clean(code, said):
    assert steps.sanitizer_clean(PLACES, code, said).problems


def test_what_the_sanitizer_found_is_told():
    said = NAME + "========= Invalid __global__ read\n=========     at f\n" + END + "========= ERROR SUMMARY: 1 error\n"
    (problem,) = steps.sanitizer_clean(PLACES, 86, said).problems
    assert problem == "exit code 86; ERROR SUMMARY: 1 error\nInvalid __global__ read\nat f"


def test_without_the_sanitizer_its_step_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "sanitizer", lambda: None)
    one = next(one for one in steps.STEPS if one.name == "memcheck")
    *_, entries = run([runner.Step("build", 1, "log", lambda places: ["true"]), one], tmp_path)
    assert entries["memcheck"]["status"] == "failed" and "compute-sanitizer" in entries["memcheck"]["problems"][0]


RACE = {"title": "op forward, 53k, batch 32", "place": "cuda", "clock": "CUDA events", "images": 32, "median": 2.8e-3}
RACE |= {"bytes_moved": 100, "bytes_least": 50, "bandwidth": 3e12, "share": 1 / 3}
RACE["peers"] = {"plain torch": {"median": 0.1, "ratio": 35.7, "ratio_low": 30.0, "ratio_high": 40.0}}
FIGURES = {"machine": {"torch": "2"}, "races": [RACE], "failed": [], "left_out": {"nvdiffrast": "does not import"}}
TARGET = {"what": "op forward", "target": "<= 100 us", "reached": 90.0, "unit": "us", "verdict": "reached", "note": ""}
FIGURES["targets"] = [TARGET, TARGET | {"what": "unmeasured", "reached": None}]


def test_benchmarks_are_judged_and_shown(tmp_path):
    places = runner.Places(tmp_path, tmp_path)
    assert "no figures" in steps.benchmarks_done(places, 1, "no").problems[0]
    (tmp_path / "bench.json").write_text(json.dumps(FIGURES))
    outcome = steps.benchmarks_done(places, 0, "")
    assert not outcome.problems and outcome.counts == {"timed": 1, "failed": 0}
    page = summary.render(MADE_UP | {"steps": []} | outcome.data)
    assert "A (compute capability 9.0, 132 multiprocessors, 80 GiB, 50.0 MiB of L2)" in page
    page = re.sub(" +", " ", page)
    row = "| op forward, 53k, batch 32 | cuda, CUDA events | 0.0028 | plain torch: 35.7 (30 - 40) | 2.00 | 33.3 % |"
    assert row in page and "torch: 2; a copy reads and writes cuda: 3000 GB/s" in page
    assert "| op forward | <= 100 us | 90 us | reached |" in page and "unmeasured" not in page
    failed = FIGURES | {"failed": [{"name": "op", "error": "wrong"}], "races": []}
    (tmp_path / "bench.json").write_text(json.dumps(failed))
    assert steps.benchmarks_done(places, 1, "").problems == ["op\nwrong", "nothing was timed"]


NCU = """==PROF== Connected to process 1
"ID","Process ID","Kernel Name","CC","dram__bytes_read.sum","dram__bytes_write.sum","gpu__time_duration.sum"
"","","","","byte","byte","ns"
"0","1","void focus::<unnamed>::draw_kernel<focus::<unnamed>::Nearest<float>>(P)","9.0","2,000,000","1000000","3,000"
"1","1","void at::native::something(float, int)","9.0","0","0","1,000"
==PROF== Disconnected
"""


def test_profile_is_read_and_shown():
    outcome = steps.profile_read(PLACES, 0, NCU)
    assert not outcome.problems and outcome.counts == {"kernels": 2}
    page = summary.render(MADE_UP | {"steps": []} | outcome.data)
    assert "| draw_kernel | 3.0 | 2.0 | 1.0 | 1000 |" in page and "| all | 4.0 | 2.0 | 1.0 | 750 |" in page


@pytest.mark.parametrize(
    ("code", "said", "bad"), [(0, "", False), (1, "==ERROR== ERR_NVGPUCTRPERM", False), (1, "", True)]
)
def test_profile_may_be_kept_from_us(code, said, bad):
    outcome = steps.profile_read(PLACES, code, said)
    assert bool(outcome.problems) == bad and outcome.notes


@pytest.mark.slow
def test_the_steps_ask_for_tests_of_the_gpu():
    """Where torch says that there is a GPU, each file has tests for it under the names that are asked for."""
    files = [*steps.ON_GPU, "tests/test_contract.py", *steps.PER_DEVICE, *steps.FUZZ, "tests/test_sizes.py"]
    asked = next(one for one in steps.STEPS if one.name == "contract").command(PLACES)
    options = [x for x in asked[3:] if not x.startswith(("tests/", "--junit"))]
    code = (
        "import sys, torch; torch.cuda.is_available = lambda: True; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *options, "-m", "slow or not slow", "--collect-only", "-qq", *files]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr
    found = re.findall(r"^(tests/\w+\.py)::(\S+)", answer.stdout, re.MULTILINE)
    for file in files:
        names = [name for path, name in found if path == file]
        assert any("cuda" in name for name in names) or file in steps.ON_GPU, f"{file}: {names[:3]}"
        assert names, file


def test_every_file_with_tests_per_device_is_asked_for():
    known = {*steps.ON_GPU, "tests/test_contract.py", *steps.PER_DEVICE, *steps.FUZZ, "tests/test_sizes.py"}
    known.add("tests/test_triton_interpreter.py")  # which runs where Triton's kernels are interpreted, and nowhere else
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        fixtures = {arg.arg for node in functions if node.name.startswith("test_") for arg in node.args.args}
        if fixtures & {"backend", "kernel", "device"}:
            assert f"tests/{path.name}" in known, f"{path.name} is not run on a GPU: scripts/gpu_check/steps.py"


def test_the_small_calls_name_every_kernel():
    """That they reach the kernels they name is seen where kernels can run: test_cuda.py."""
    sources = "\n".join(path.read_text() for path in (ROOT / "csrc").rglob("*.cu*"))
    kernels = re.findall(r"__global__ void (?:__launch_bounds__\(.*\)\s)?\s*(\w+)\(", sources)
    assert len(kernels) == sources.count("__global__")
    assert set(kernels) == {kernel for _, names in KERNELS_OF for kernel in names}


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_trees_are_named_as_git_names_them(tmp_path):
    (tmp_path / "a" / "b.d").mkdir(parents=True)
    (tmp_path / "a" / "__pycache__").mkdir()
    (tmp_path / "a" / "empty").mkdir()
    for name in ("a/b", "a/b.d/c", "a/z.py", "a/__pycache__/x.pyc", "a/_C.so"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a" / "z.py").chmod(0o755)
    (tmp_path / ".gitignore").write_text("__pycache__\n*.so\n")
    git = lambda *words: subprocess.run(
        ["git", "-C", tmp_path, *words], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()
    git("init", "-q")
    git("add", "-A")
    whole = git("write-tree")
    assert machine.tree(tmp_path / "a") == git("rev-parse", f"{whole}:a")
