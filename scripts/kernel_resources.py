"""Registers, stack, spills and shared memory of every kernel, for each architecture. Needs nvcc and triton, no GPU.

python scripts/kernel_resources.py            compile, and compare with tests/kernel_resources.json
python scripts/kernel_resources.py --write    compile, and write that file
python scripts/kernel_resources.py --table    print that file as Markdown
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "kernel_resources.json"
COMMAND = "python scripts/kernel_resources.py --write"
ARCHS = (80, 90, 100)
FIELDS = ("registers", "stack", "spill_stores", "spill_loads", "shared")
MAY_NOT_GROW = ("stack", "spill_stores", "spill_loads")

Resources = dict[str, int]  # of one kernel on one architecture: those of FIELDS that are not zero
Kernels = dict[str, dict[str, dict[str, Resources]]]  # op -> kernel -> sm_NN
Section = dict[str, str | Kernels]  # {"compiler": ..., "kernels": ...}


class Unavailable(Exception):
    """The compiler of a section cannot be had here."""


def parse(log: str) -> dict[tuple[str, str], Resources]:
    """What `ptxas -v` said: (kernel as mangled, sm_NN) -> resources."""
    found: dict[tuple[str, str], Resources] = {}
    kernel = function = arch = ""
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)' for '(sm_\d+)", line):
            kernel, arch = match.groups()
            found[kernel, arch] = {}
        elif match := re.search(r"Function properties for (\S+)", line):
            function = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            if function == kernel:  # a function that was not inlined counts in the kernel's cumulative stack
                found[kernel, arch] |= dict(zip(MAY_NOT_GROW, map(int, match.groups()), strict=True))
        elif match := re.search(r"Used (\d+) registers", line):
            used = found[kernel, arch]
            used["registers"] = int(match[1])
            used["shared"] = sum(map(int, re.findall(r"(\d+) bytes smem", line)))
            used["stack"] = max([used["stack"], *map(int, re.findall(r"(\d+) bytes cumulative stack", line))])
    return {key: tidy(used) for key, used in found.items()}


def tidy(used: Resources) -> Resources:
    """In the order of FIELDS, without zeros."""
    return {field: used[field] for field in FIELDS if used.get(field)}


def readable(mangled: list[str]) -> list[str]:
    """`draw_kernel<Nearest<float>>`: without namespaces and parameters."""
    names = subprocess.run(["c++filt", "-p", *mangled], check=True, capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"(?:\w+|\(anonymous namespace\))::", "", name).replace("> >", ">>") for name in names]


def find_nvcc() -> str:
    """The nvcc that CMake would take, if it knows every architecture."""
    paths = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    paths += [f"{home}/bin/nvcc" for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    nvcc = next((path for path in paths if path and shutil.which(path)), None)
    if nvcc is None:
        raise Unavailable("nvcc was not found (install the CUDA toolkit, or set CUDACXX=/path/to/nvcc)")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout.split()
    if unknown := [f"sm_{arch}" for arch in ARCHS if f"sm_{arch}" not in known]:
        raise Unavailable(f"{nvcc} does not know {', '.join(unknown)} (nvcc >= 12.8 does)")
    return nvcc


def compile_commands(nvcc: str, build: Path) -> dict[str, list[str]]:
    """How CMake compiles each .cu file: op -> the words of the command. The flags are in cmake/, and only there."""
    import ninja
    import pybind11

    import cmake

    command = [str(Path(cmake.CMAKE_BIN_DIR) / "cmake"), "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
    command += [f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}", f"-DPython_EXECUTABLE={sys.executable}"]
    command += [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_CUDA_COMPILER={nvcc}", "-DFOCUS_CUDA=ON"]
    command += [f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(f'{arch}-real' for arch in ARCHS)}"]
    command += ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCCACHE=OFF"]  # ccache would hide what ptxas says
    subprocess.run(command, check=True, capture_output=True, text=True)
    entries = json.loads((build / "compile_commands.json").read_text())
    return {Path(e["file"]).parent.name: shlex.split(e["command"]) for e in entries if e["file"].endswith(".cu")}


def device_code(command: list[str], out: Path) -> str:
    """Compiles for the device only, which takes half the time; gives what ptxas said."""
    at = command.index("-o")
    words = [word for word in command[:at] + command[at + 2 :] if word != "-c"]
    done = subprocess.run([*words, "-fatbin", "-Xptxas=-v", "-o", out], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def cuda_section() -> Section:
    """Compiles every csrc/<op>/<op>_cuda.cu."""
    nvcc = find_nvcc()
    kernels: Kernels = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        commands = compile_commands(nvcc, Path(folder))
        # render_sh takes longest by far, so the largest file goes first.
        ops = sorted(commands, key=lambda op: op != "render_sh")
        logs = pool.map(lambda op: device_code(commands[op], Path(folder) / f"{op}.fatbin"), ops)
        for op, log in zip(ops, logs, strict=True):
            kernels[op] = by_name(parse(log))
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"\bV(\d+\.\d+\.\d+)", said)
    return {"compiler": f"nvcc {version[1] if version else said}", "kernels": kernels}


def by_name(found: dict[tuple[str, str], Resources]) -> dict[str, dict[str, Resources]]:
    kernels: dict[str, dict[str, Resources]] = {}
    for name, ((_, arch), used) in zip(readable([kernel for kernel, _ in found]), found.items(), strict=True):
        kernels.setdefault(name, {})[arch] = used
    return kernels


def triton_section() -> Section:
    """Compiles every launch of every focus_kernels/ops/<op>/triton.py (tests/triton_aot.py)."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    try:
        import triton
        import triton_aot
    except ImportError as error:
        raise Unavailable(f"triton is not installed ({error})") from error
    if triton.knobs.runtime.interpret:
        raise Unavailable("TRITON_INTERPRET is set, which leaves nothing to compile")
    return {"compiler": f"triton {triton.__version__}", "kernels": triton_aot.resources(ARCHS, parse)}


SECTIONS = {"cuda": cuda_section, "triton": triton_section}


def rows(section: Section) -> dict[tuple[str, str, str], Resources]:
    """(op, kernel, sm_NN) -> resources."""
    kernels = section["kernels"]
    return {
        (op, name, arch): kernels[op][name][arch]
        for op in kernels
        for name in kernels[op]
        for arch in kernels[op][name]
    }


def compare(before: Section, now: Section) -> tuple[list[str], list[str]]:
    """Problems, each of which fails the check; and changes that are only worth knowing."""
    problems, changes = [], []
    old, new = rows(before), rows(now)
    for key in sorted(old.keys() | new.keys()):
        name = "{}: {} on {}".format(*key)
        if key not in new:
            problems.append(f"{name} is in the table, but not compiled any more")
            continue
        if key not in old:
            problems.append(f"{name} is not in the table; it uses {described(new[key])}")
            continue
        for field in FIELDS:
            was, is_ = old[key].get(field, 0), new[key].get(field, 0)
            if was != is_:
                worse = field in MAY_NOT_GROW and is_ > was
                (problems if worse else changes).append(f"{name}: {field.replace('_', ' ')} {was} -> {is_}")
    return problems, changes


def described(used: Resources) -> str:
    return ", ".join(f"{amount} {field.replace('_', ' ')}" for field, amount in used.items()) or "nothing"


def dumps(table: dict[str, Section]) -> str:
    """Sorted JSON with a kernel a line, so that a change shows as one."""
    sections = []
    for name, section in sorted(table.items()):
        ops = []
        for op, kernels in sorted(section["kernels"].items()):
            lines = [f"    {json.dumps(kernel)}: {json.dumps(kernels[kernel])}" for kernel in sorted(kernels)]
            ops.append(f"   {json.dumps(op)}: {{\n" + ",\n".join(lines) + "\n   }")
        compiler = json.dumps(section["compiler"])
        sections.append(f' "{name}": {{\n  "compiler": {compiler},\n  "kernels": {{\n' + ",\n".join(ops) + "\n  }\n }")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def markdown(table: dict[str, Section]) -> str:
    """Registers; then stack, spills and shared memory where there are any."""
    archs = [f"sm_{arch}" for arch in ARCHS]
    lines = []
    for name, section in table.items():
        lines += [f"{name}, {section['compiler']}; registers, then bytes", ""]
        lines += [f"| op | kernel | {' | '.join(archs)} |", "|---|---|" + "---|" * len(archs)]
        for op, kernels in section["kernels"].items():
            for kernel, used in kernels.items():
                cells = [described(used[arch]).replace(" registers", "") if arch in used else "" for arch in archs]
                lines.append(f"| {op} | `{kernel}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", action="store_true")
    group.add_argument("--table", action="store_true")
    args = parser.parse_args()
    table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    if args.table:
        print(markdown(table))
        return 0
    failed = False
    for name, compiled in SECTIONS.items():
        try:
            now = compiled()
        except Unavailable as reason:
            print(f"{name}: left as it is, {reason}")
            continue
        problems, changes = compare(table.get(name, {"compiler": "", "kernels": {}}), now)
        print(f"{name}: {len(rows(now))} kernels times architectures, by {now['compiler']}")
        print("\n".join(["", *changes, *problems])[1:] or "as in the table")
        failed |= bool(problems)
        table[name] = now
    if args.write:
        TABLE.write_text(dumps(table))
        return 0
    if failed:
        print(f"If this is meant: {COMMAND}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
