"""The calls of gpu_small.py reach the kernels that they name: where CUDA is emulated, and so on every commit."""

import re

import pytest
from gpu_small import DTYPES, KERNELS_OF
from meshes import cast
from test_contract import run

from focus_kernels._extension import _C

EMULATION = getattr(_C, "cuda_emulation", None)


@pytest.mark.skipif(EMULATION is None, reason="kernels are counted by the emulation of CUDA only")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("case", "kernels"), KERNELS_OF, ids=lambda value: str(value) if hasattr(value, "op") else "")
def test_small_calls_reach_every_kernel(case, kernels, dtype):
    before = EMULATION.launches()
    run(case.on("cpu"), cast(case.inputs, dtype, "cpu", grad=True))
    launched = [name for name, count in EMULATION.launches().items() if count != before.get(name, 0)]
    assert {re.match(r"\w+", name)[0] for name in launched} == set(kernels)
