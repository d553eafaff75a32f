"""`PYTHONPATH=tests python -m bench.once`: one forward and backward of render_sh as they are judged, for a profiler.

What comes before and after is outside of `cudaProfilerStart` and `cudaProfilerStop`.
"""

import torch

from . import shapes
from .bench_render_sh import PICTURE, both


def main() -> None:
    mesh, batch = shapes.MAIN[0]
    scene = shapes.scene(mesh).part(slice(0, batch), "cuda")
    call = both(scene, shapes.cotangent(batch, *PICTURE).to("cuda"))
    call()  # loads the kernels
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    call()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
