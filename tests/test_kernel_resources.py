"""No kernel spills registers or needs a stack that did not before: compiled, and held against kernel_resources.json."""

import importlib.util
import json
import sys
from copy import deepcopy
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / "scripts" / "kernel_resources.py"
SPEC = importlib.util.spec_from_file_location(PATH.stem, PATH)
resources = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(resources)

SPACE = "_ZN5focus56_GLOBAL__N__f3e71b84_17_rasterize_cuda_cu_451d92dd_11775"
DRAW = SPACE + "11draw_kernelINS0_7NearestIfEEEEvNS_16RasterizeParamsINT_1TEEE"
LOG = f"""
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{DRAW}' for 'sm_80'
ptxas info    : Function properties for {DRAW}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 0 barriers, 464 bytes cmem[0], 16 bytes cmem[2]
ptxas info    : Compile time = 74.050 ms
ptxas info    : Compiling entry function '{DRAW}' for 'sm_100'
ptxas info    : Function properties for {DRAW}
    16 bytes stack frame, 24 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 16 bytes cumulative stack size, 288 bytes smem
ptxas info    : Function properties for __internal_trig_reduction_slowpathd
    40 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas-blackwell info    : Compiling entry function '_forward' for 'sm_90a'
ptxas-blackwell info    : Function properties for __internal_trig_reduction_slowpathd
    40 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas-blackwell info    : Function properties for _forward
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas-blackwell info    : Used 30 registers, used 1 barriers, 40 bytes cumulative stack size
"""


def test_the_log_of_ptxas_is_read():
    assert resources.parse(LOG) == {
        (DRAW, "sm_80"): {"registers": 48},
        (DRAW, "sm_100"): {"registers": 80, "stack": 16, "spill_stores": 24, "spill_loads": 12, "shared": 288},
        ("_forward", "sm_90"): {"registers": 30, "stack": 40},
    }


@pytest.mark.skipif(resources.shutil.which("c++filt") is None, reason="c++filt is not installed")
def test_names_can_be_read():
    assert resources.readable([DRAW]) == ["draw_kernel<Nearest<float>>"]


@pytest.fixture
def table():
    return json.loads(resources.TABLE.read_text())


def test_the_table_is_as_the_script_writes_it(table):
    assert resources.dumps(table) == resources.TABLE.read_text()
    assert sorted(table) == sorted(resources.SECTIONS)


def test_the_table_has_every_kernel_for_every_architecture(table):
    ops = {path.parent.name for path in (resources.ROOT / "csrc").glob("*/*_cuda.cu")}
    assert set(table["cuda"]["kernels"]) == ops
    for section in table.values():
        for kernels in section["kernels"].values():
            assert all(sorted(archs) == ["sm_100", "sm_80", "sm_90"] for archs in kernels.values())
    text = resources.markdown(table)
    assert all(f"`{kernel}`" in text for kernels in table["cuda"]["kernels"].values() for kernel in kernels)


@pytest.mark.parametrize("field", ["stack", "spill_stores", "spill_loads"])
def test_what_got_worse_is_a_problem(table, field):
    before, now = table["cuda"], deepcopy(table["cuda"])
    assert resources.compare(before, now) == ([], [])
    now["kernels"]["shade_sh"]["shade_kernel<float>"]["sm_90"][field] = 8
    (problem,) = resources.compare(before, now)[0]
    assert problem == f"shade_sh: shade_kernel<float> on sm_90: {field.replace('_', ' ')} 0 -> 8"
    assert resources.compare(now, before) == ([], [problem.replace("0 -> 8", "8 -> 0")])


def test_kernels_that_come_and_go_are_problems(table):
    more = deepcopy(table["cuda"])
    more["kernels"]["shade_sh"]["new_kernel"] = {"sm_80": {"registers": 9, "stack": 8}}
    assert resources.compare(table["cuda"], more) == (
        ["shade_sh: new_kernel on sm_80 is not in the table; it uses 9 registers, 8 stack"],
        [],
    )
    assert resources.compare(more, table["cuda"]) == (
        ["shade_sh: new_kernel on sm_80 is in the table, but not compiled any more"],
        [],
    )


def test_registers_may_differ(table):
    now = deepcopy(table["cuda"])
    now["kernels"]["shade_sh"]["shade_kernel<float>"]["sm_90"]["registers"] += 8
    problems, (change,) = resources.compare(table["cuda"], now)
    assert not problems
    assert "registers" in change


@pytest.mark.slow
@pytest.mark.parametrize("name", resources.SECTIONS)
def test_nothing_spills_that_did_not(table, name, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        now = resources.SECTIONS[name]()
    except resources.Unavailable as reason:
        pytest.skip(str(reason))
    problems, changes = resources.compare(table[name], now)
    print("\n".join(changes))
    compilers = f"the table is from {table[name]['compiler']}, this is {now['compiler']}"
    assert not problems, "\n".join([*problems, compilers, f"if this is meant: {resources.COMMAND}"])
