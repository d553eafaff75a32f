#!/usr/bin/env python3
"""Runs the tests over other builds of the kernels (CUDA emulated on the CPU, sanitizers), and tests that take minutes.

    python scripts/check.py                        # all of them
    python scripts/check.py asan tsan              # some of them (--list says what each is)
    python scripts/check.py asan -- -k rasterize   # with arguments for pytest

Builds, and what pytest wrote (pytest.log), are in build/check/NAME. Ends with one line for each, and with status 1 if
one failed, which it also does where it cannot run on this machine.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from builds import build  # noqa: E402  (tests/ is no package)

SCALAR = ("vertex_normals", "shade_sh", "interpolate")  # no vector code on the CPU
VECTORS = ("rasterize", "rasterize_rules", "rasterize_clip", "rasterize_ndc", "render_sh", "antialias")
CPU_ONLY = ("blend", "masked_pixel_loss", "neighbor_min_loss")  # vectors; no CUDA, on a GPU Triton runs them
OTHERS = ("threads", "inputs", "topology", "camera")
OTHERS += ("compat_de*", "compat_focus*", "compat_nvdiffrast", "compat_nvdiffrast_interpolate")  # run kernels
OTHERS += ("compat_pytorch3d*", "compat_sim3dr")


def files(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_{name}.py" for name in (*names, "contract", "backends"))


def without(*names: str) -> tuple[str, ...]:
    """pytest's arguments: all but these, and the definition in torch, which runs no kernel."""
    return "-k", " and ".join(f"not {name}" for name in ("ref-cpu", *names))


FUZZ = "tests/test_fuzz_*.py"
TIME_LIMIT = 1800  # seconds


@dataclass(frozen=True)
class Variant:
    what: str
    tests: tuple[str, ...]  # patterns of files
    cmake: dict[str, str] = field(default_factory=dict)  # none: the tests run on the installed extension
    arguments: tuple[str, ...] = ()  # of pytest
    environment: dict[str, str] = field(default_factory=dict)  # where it is not set
    threads: int = 0  # of torch; 0: what torch takes


EMULATION = {"FOCUS_CUDA_EMULATION": "ON"}
VARIANTS = {
    "emulation": Variant(
        "the CUDA kernels on the CPU, with a log that looks for races",
        (*files(*SCALAR, *VECTORS, *OTHERS, "cuda_emulation", "gpu_small"), FUZZ),
        EMULATION,
        without(*CPU_ONLY),
    ),
    "emulation-asan": Variant(
        "the CUDA kernels on the CPU under AddressSanitizer and UBSan",
        (*files(*SCALAR, *VECTORS, *OTHERS), FUZZ),
        {**EMULATION, "FOCUS_SANITIZE": "address"},
        without(*CPU_ONLY, "many_images"),  # more images than a grid has blocks: minutes
    ),
    "asan": Variant(
        "the CPU kernels under AddressSanitizer and UBSan",
        (*files(*SCALAR, *VECTORS, *CPU_ONLY, *OTHERS), FUZZ),
        {"FOCUS_CUDA": "OFF", "FOCUS_SANITIZE": "address"},
        without(),
        threads=4,
    ),
    "avx512": Variant(
        "the AVX-512 kernels, their instructions in C++, under AddressSanitizer and UBSan",
        (*files(*VECTORS, *CPU_ONLY), FUZZ),
        {"FOCUS_CUDA": "OFF", "FOCUS_AVX512_EMULATION": "ON", "FOCUS_SANITIZE": "address"},
        without(*SCALAR),
    ),
    "tsan": Variant(
        "the CPU kernels on std::thread under ThreadSanitizer",
        files(*SCALAR, *VECTORS, *CPU_ONLY, "threads"),
        {"FOCUS_CUDA": "OFF", "FOCUS_SANITIZE": "thread", "FOCUS_THREADS": "std"},
        # ThreadSanitizer cannot follow the fork of a process with threads.
        without("dataloader_workers"),
        threads=4,
    ),
    "resources": Variant(
        "registers, stack, spills and shared memory of each CUDA kernel, against tests/kernel_resources.json",
        ("tests/test_kernel_resources.py",),
        arguments=("-m", ""),
    ),
    "triton": Variant(
        "the Triton kernels, interpreted and compiled ahead of time", ("tests/test_triton.py",), arguments=("-m", "")
    ),
    "fuzz": Variant(
        "hypothesis for FOCUS_FUZZ_MINUTES (10), with new seeds",
        (FUZZ,),
        environment={"FOCUS_FUZZ_MINUTES": "10"},
    ),
}


def sanitizer_environment(folder: Path) -> dict[str, str]:
    """What a process needs to load what was built in `folder`: an uninstrumented python must load the sanitizer first.

    A report aborts the process, so that Python's fault handler names the test.
    """
    cache = (folder / "CMakeCache.txt").read_text()
    preload = re.search(r"^FOCUS_SANITIZE_RUNTIME:INTERNAL=(.+)$", cache, re.MULTILINE)
    if preload is None:
        return {}
    common = "halt_on_error=1:abort_on_error=1"
    return {
        "LD_PRELOAD": preload[1],
        "ASAN_OPTIONS": f"{common}:detect_leaks=0:detect_stack_use_after_return=1",  # python itself leaks
        "UBSAN_OPTIONS": f"{common}:print_stacktrace=1",
        "TSAN_OPTIONS": f"{common}:suppressions={ROOT / 'tests/sanitizers/tsan.supp'}",
    }


def check(name: str, variant: Variant, arguments: list[str]) -> str:
    """Build and test; the reason of a failure, or nothing."""
    found = [str(path.relative_to(ROOT)) for pattern in variant.tests for path in sorted(ROOT.glob(pattern))]
    if not found:
        return f"there is no {' '.join(variant.tests)}"
    folder = ROOT / "build" / "check" / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**variant.environment, **os.environ, "PYTHONUNBUFFERED": "1"}
    if variant.cmake:
        try:
            build(name, "_C", **variant.cmake)
        except (AssertionError, pytest.skip.Exception) as error:
            return f"it does not build: {error}"
        environment |= {"FOCUS_TEST_EXTENSION": str(folder / "_C.so"), **sanitizer_environment(folder)}
    start = ["import sys, pytest", "sys.exit(pytest.main())"]
    if variant.threads:
        start.insert(0, f"import torch; torch.set_num_threads({variant.threads})")
    if variant.cmake.get("FOCUS_SANITIZE") == "thread":
        # After a first report, which is one of torch that is suppressed, what is loaded has no names in other reports.
        start.insert(0, f"import ctypes; ctypes.CDLL({str(folder / '_C.so')!r})")
    # Nothing captures stderr, where a sanitizer reports; -v writes the name of a test before it runs.
    options = ["-v", "-rs", "--capture=sys", "-p", "no:cacheprovider", "--durations=5", *variant.arguments]
    log = folder / "pytest.log"
    with log.open("w") as out:
        try:
            command = [sys.executable, "-c", "; ".join(start), *options, *found, *arguments]
            kwargs = {"stdout": out, "stderr": subprocess.STDOUT, "timeout": TIME_LIMIT}
            status = subprocess.run(command, cwd=ROOT, env=environment, check=False, **kwargs).returncode
        except subprocess.TimeoutExpired:
            status = f"no end after {TIME_LIMIT} s"
    text = log.read_text(errors="replace")
    if status == 0 and re.search(r"\b\d+ passed\b", text):
        return ""
    # The passed tests are noise here, and so are the frames of python in a sanitizer's report.
    noise = re.compile(r"^tests/.* (PASSED|SKIPPED)|^    #\d+ .* (_Py|Py[A-Z]|\w+_vectorcall|pymain)")
    print("\n".join(line for line in text.splitlines() if not noise.search(line)), flush=True)
    return f"pytest ended with {status}" if status else "every test was skipped"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(VARIANTS)}; all where none is given")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at a time")
    parser.add_argument("--list", action="store_true", help="say what each is")
    own, arguments = sys.argv[1:], []
    if "--" in own:
        own, arguments = own[: own.index("--")], own[own.index("--") + 1 :]
    args = parser.parse_args(own)
    if args.list:
        for name, variant in VARIANTS.items():
            print(f"{name:<15} {variant.what}")
        return 0
    if unknown := set(args.names) - set(VARIANTS):
        parser.error(f"expected NAME to be one of {', '.join(VARIANTS)}, got {', '.join(sorted(unknown))}")
    failed = []

    def line(name: str) -> str:
        print(f"check {name}: {VARIANTS[name].what}", flush=True)
        start = time.monotonic()
        if reason := check(name, VARIANTS[name], arguments):
            failed.append(name)
        return f"{name:<15} {time.monotonic() - start:5.0f} s  {f'FAILED: {reason}' if reason else 'passed'}"

    with ThreadPoolExecutor(args.jobs) as pool:
        print(*pool.map(line, args.names or VARIANTS), sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
