"""The sanitizers of scripts/check.py see what they are there for: planted bugs, loaded by an uninstrumented python."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builds import ROOT, build

SOURCE = ROOT / "tests" / "sanitizers" / "planted.cpp"
CALL = "import ctypes, sys; print('returned', getattr(ctypes.CDLL(sys.argv[1]), sys.argv[2])(int(sys.argv[3])))"
ADDRESS = {
    "heap_write": r"AddressSanitizer: heap-buffer-overflow .*WRITE of size 4",
    "heap_read": r"AddressSanitizer: heap-buffer-overflow .*READ of size 4",
    "scratch_write": r"AddressSanitizer: use-after-poison .*WRITE of size 4",
    "scratch_read": r"AddressSanitizer: use-after-poison .*READ of size 4",
    "signed_overflow": r"runtime error: signed integer overflow: 2147483647 \+ 1 cannot be represented",
    "cast_overflow": r"runtime error: 3e\+09 is outside the range of representable values of type 'int'",
}
THREAD = {
    "pixel_race": r"ThreadSanitizer: data race .*of size 4 at .* by (main )?thread.*Previous .*heap block",
    "flag_race": r"ThreadSanitizer: data race .*of size 4 at .* by .*Previous write of size 4 at .* by (main )?thread",
}


def _script():
    spec = importlib.util.spec_from_file_location("check", ROOT / "scripts" / "check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = _script()


@pytest.fixture(scope="module")
def planted():
    """Runs a planted function in the way in which a variant of scripts/check.py runs the kernels."""
    folders = {name: build(name, "planted_cpu", **check.VARIANTS[name].cmake) for name in ("asan", "tsan")}

    def run(variant: str, name: str, wrong: int) -> tuple[int, str]:
        folder: Path = folders[variant]
        command = [sys.executable, "-c", CALL, folder / "planted_cpu.so", name, str(wrong)]
        env = {**os.environ, **check.sanitizer_environment(folder)}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def line_of(name: str) -> int:
    (line,) = [k for k, text in enumerate(SOURCE.read_text().splitlines(), 1) if text.endswith(f"// {name}")]
    return line


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ADDRESS, *THREAD])
def test_a_planted_bug_is_caught(planted, name):
    pattern = {**ADDRESS, **THREAD}[name]
    status, output = planted("asan" if name in ADDRESS else "tsan", name, 1)
    assert status != 0 and "returned" not in output, output
    assert re.search(pattern, output, re.DOTALL), output
    assert f"planted.cpp:{line_of(name)}" in output, output


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ADDRESS, *THREAD, "scratch_uninitialised"])
def test_the_same_code_without_the_bug_passes(planted, name):
    assert planted("tsan" if name in THREAD else "asan", name, 0) == (0, "returned 0\n")


@pytest.mark.slow
def test_unwritten_scratch_memory_is_no_number_that_a_result_survives(planted):
    assert planted("asan", "scratch_uninitialised", 1) == (0, "returned 1\n")


def test_suppressions_do_not_name_the_module():
    lines = (ROOT / "tests" / "sanitizers" / "tsan.supp").read_text().splitlines()
    rules = [line.partition(":")[2] for line in lines if line and not line.startswith("#")]
    assert rules
    for rule in rules:
        assert rule not in str(ROOT / "build/check/tsan/_C.so") and "focus" not in rule and "*" not in rule


def test_the_script_fails_where_there_is_nothing_to_run(monkeypatch, capsys):
    monkeypatch.setattr(check, "VARIANTS", {"absent": check.Variant("of no use", ("tests/test_absent_*.py",))})
    monkeypatch.setattr(sys, "argv", ["check.py"])
    assert check.main() == 1
    assert re.search(r"^absent +0 s  FAILED: there is no tests/test_absent_\*\.py$", capsys.readouterr().out, re.M)


def test_the_script_knows_its_names(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check.py", "asan", "nothing"])
    with pytest.raises(SystemExit):
        check.main()
    assert "expected NAME to be one of emulation, " in capsys.readouterr().err
