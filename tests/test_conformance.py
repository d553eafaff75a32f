"""The shape of the repository: one room per op, one stem everywhere, layers that stay apart, files that can be read."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import focus_kernels
from focus_kernels import info

ROOT = Path(__file__).resolve().parents[1]
OPS = sorted(path.parent.name for path in (ROOT / "focus_kernels/ops").glob("*/__init__.py"))
COMPILED = sorted(op for op in OPS if (ROOT / f"focus_kernels/ops/{op}/native.py").exists())
CPU_ONLY = re.findall(r"^focus_op\((\w+).*CPU_ONLY", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
FUNCTIONS = sorted(name for name in focus_kernels.__all__ if inspect.isfunction(getattr(focus_kernels, name)))
PUBLIC_MODULES = {"focus_kernels.info", "focus_kernels.compat"}
MAX_LINES = 450
SOURCE_SUFFIXES = {".py", ".pyi", ".h", ".cpp", ".cu", ".cuh", ".cmake"}
SHAPE = re.compile(r"\[(?:[A-Z1-9][\w' ]*)(?:, ?[\w' ]+)*\]")


def files(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SOURCE_SUFFIXES and "__pycache__" not in path.parts:
                yield path


def test_the_lists_of_ops_agree():
    listed = re.findall(r"^focus_op\((\w+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)
    rooms = sorted(path.name for path in (ROOT / "csrc").iterdir() if path.is_dir() and path.name != "core")
    assert sorted(listed) == rooms == COMPILED
    assert sorted(info.OPS) == OPS
    assert set(OPS) <= set(FUNCTIONS)
    assert {getattr(focus_kernels, name).__module__ for name in FUNCTIONS} == {
        f"focus_kernels.ops.{op}.op" for op in OPS
    }


@pytest.mark.parametrize("op", OPS)
def test_room_is_complete(op):
    room = [f"focus_kernels/ops/{op}/{name}" for name in ("__init__.py", "op.py", "ref.py")]
    room += [f"tests/test_{op}.py", f"bench/bench_{op}.py"]
    if op in COMPILED:
        room += [f"csrc/{op}/{name}" for name in ("bind.cpp", f"{op}.h", f"{op}_math.h")]
        on_gpu = f"focus_kernels/ops/{op}/triton.py" if op in CPU_ONLY else f"csrc/{op}/{op}_cuda.cu"
        room += [f"csrc/{op}/{op}_cpu.cpp", on_gpu]
    missing = [name for name in room if not (ROOT / name).is_file()]
    assert not missing


@pytest.mark.parametrize("op", OPS)
def test_room_is_reached_by_its_function_only(op):
    module = ast.parse((ROOT / f"focus_kernels/ops/{op}/op.py").read_text())
    defined = {node.name for node in module.body if isinstance(node, ast.FunctionDef)}
    assert op in defined
    assert getattr(focus_kernels, op).__module__ == f"focus_kernels.ops.{op}.op"


def test_csrc_includes_no_torch_header():
    torch_header = re.compile(r'#\s*include\s*[<"](torch|ATen|c10|caffe2)/')
    assert not [path for path in files("csrc") if torch_header.search(path.read_text())]


@pytest.mark.parametrize("op", COMPILED)
def test_bridge_header_is_plain_data(op):
    includes = re.findall(r'#\s*include\s*[<"]([^>"]+)', (ROOT / f"csrc/{op}/{op}.h").read_text())
    assert not [name for name in includes if re.search(r"pybind|Python\.h|cuda|core/tensor\.h", name)]


def test_kernels_never_meet_python():
    paths = [path for path in files("csrc") if re.search(r"(_cpu|_simd)\.cpp$|_cuda\.cu$|_math\.h$", path.name)]
    assert not [path for path in paths if re.search(r"pybind11|Python\.h|core/tensor\.h", path.read_text())]


def below_the_public_names(path):
    """What a file takes from focus_kernels other than its public functions and modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("focus_kernels.") and not allowed(alias.name):
                    yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "focus_kernels":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if not (full.removeprefix("focus_kernels.") in focus_kernels.__all__ or allowed(full)):
                    yield full
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "focus_kernels":
            full = f"focus_kernels.{node.attr}"
            if not (node.attr in focus_kernels.__all__ or allowed(full)):
                yield full


def allowed(name):
    return any(name == module or name.startswith(f"{module}.") for module in PUBLIC_MODULES)


def test_focus_uses_only_public_names_of_focus_kernels():
    reached = {str(path.relative_to(ROOT)): list(below_the_public_names(path)) for path in files("focus", "examples")}
    assert not {path: names for path, names in reached.items() if names}


def test_the_check_of_imports_sees_what_it_should(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("from focus_kernels import Camera, _checks\nimport focus_kernels.ops.blend\nfocus_kernels._C.x()\n")
    assert sorted(below_the_public_names(path)) == [
        "focus_kernels._C",
        "focus_kernels._checks",
        "focus_kernels.ops.blend",
    ]
    path.write_text("import focus_kernels\nfrom focus_kernels.info import report\nfocus_kernels.blend(1)\n")
    assert not list(below_the_public_names(path))


def test_focus_kernels_never_imports_focus():
    importing = re.compile(r"^\s*(from|import) focus(\.| |$)", re.MULTILINE)
    assert not [path for path in files("focus_kernels") if importing.search(path.read_text())]


def test_files_can_be_read_in_one_sitting():
    every = [
        ROOT / "setup.py",
        *files("focus_kernels", "focus", "csrc", "tests", "bench", "scripts", "cmake", "examples"),
    ]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in every}
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}


def test_ci_runs_the_commands_of_the_readme():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    for command in ('pip install -e ".[test]" && pytest', "pip install -e . && focus demo"):
        assert f"\n{command}\n" in readme
        assert all(part in ci for part in command.split(" && "))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_function_documents_shapes_results_and_errors(name):
    function = getattr(focus_kernels, name)
    text = inspect.getdoc(function) or ""
    for section in ("Args:", "Returns:", "Raises:"):
        assert section in text
    assert len(SHAPE.findall(text)) >= 2
    assert re.search(r"differentiable|gradient", text, re.IGNORECASE)
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"\b{parameter}\b", text), f"{name}() does not document {parameter}"
    assert all(p.annotation is not inspect.Parameter.empty for p in inspect.signature(function).parameters.values())


@pytest.mark.parametrize("name", sorted(set(focus_kernels.__all__) - set(FUNCTIONS)))
def test_public_class_has_a_docstring(name):
    assert len(inspect.getdoc(getattr(focus_kernels, name)) or "") > 40
