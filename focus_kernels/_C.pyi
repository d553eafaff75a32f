"""The compiled extension. Arguments are positional; outputs are given, and written in place.

Tensors are contiguous, on one device, float32 or float64 (indices int32; the images of losses also float16 or
bfloat16). Those that may be None are scratch of the CUDA kernels, or gradients that nobody asked for.
"""

from types import ModuleType

from torch import Tensor

cuda_archs: str | None
cuda_emulation: ModuleType | None  # only in builds with FOCUS_CUDA_EMULATION
threads_engine: str

def cpu_isa() -> str: ...
def set_cpu_isa(name: str, /) -> None: ...
def blend(mean: Tensor, basis: Tensor, coeffs: Tensor, out: Tensor, threads: int, /) -> None: ...
def blend_grad(
    grad: Tensor,
    basis: Tensor,
    coeffs: Tensor,
    grad_mean: Tensor | None,
    grad_basis: Tensor | None,
    grad_coeffs: Tensor | None,
    threads: int,
    /,
) -> None: ...
def vertex_normals(
    vertices: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    normals: Tensor,
    normalize: bool,
    threads: int,
    /,
) -> None: ...
def vertex_normals_grad(
    grad: Tensor,
    vertices: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    grad_vertices: Tensor,
    grad_sums: Tensor | None,
    normalize: bool,
    threads: int,
    /,
) -> None: ...
def shade_sh(
    normals: Tensor, albedo: Tensor, sh_coeffs: Tensor, shaded: Tensor, focus: bool, threads: int, /
) -> None: ...
def shade_sh_grad(
    grad: Tensor,
    normals: Tensor,
    albedo: Tensor,
    sh_coeffs: Tensor,
    grad_normals: Tensor,
    grad_albedo: Tensor,
    grad_sh_coeffs: Tensor,
    partial: Tensor | None,
    focus: bool,
    threads: int,
    /,
) -> None: ...
def rasterize(
    positions: Tensor,
    faces: Tensor,
    face_index: Tensor,
    barycentrics: Tensor,
    depth: Tensor,
    keys: Tensor | None,
    spill: Tensor | None,
    coverage: int,
    cull: int,
    perspective: bool,
    highest: bool,
    threads: int,
    /,
) -> None: ...
def rasterize_grad(
    grad_barycentrics: Tensor | None,
    grad_depth: Tensor | None,
    positions: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    face_index: Tensor,
    grad_positions: Tensor,
    perspective: bool,
    threads: int,
    /,
    *scratch: Tensor,  # CUDA only: first, sums
) -> None: ...
def rasterize_clip(
    positions: Tensor,
    faces: Tensor,
    ranges: Tensor | None,
    behind: Tensor | None,
    face_index: Tensor,
    barycentrics: Tensor,
    depth: Tensor,
    derivatives: Tensor | None,
    nearest: Tensor,
    threads: int,
    /,
    *scratch: Tensor,  # CUDA only: points, spill
) -> None: ...
def rasterize_clip_grad(
    grad_barycentrics: Tensor | None,
    grad_derivatives: Tensor | None,
    positions: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    face_index: Tensor,
    grad_positions: Tensor,
    threads: int,
    /,
    *scratch: Tensor,  # CUDA only: first, sums
) -> None: ...
def rasterize_ndc(
    positions: Tensor,
    faces: Tensor,
    outs: tuple[Tensor, ...],
    pixels: Tensor | None,
    keys: Tensor | None,
    spill: Tensor | None,
    cull: int,
    perspective: bool,
    clip: bool,
    threads: int,
    /,
) -> None: ...
def rasterize_ndc_grad(
    grads: tuple[Tensor | None, ...],
    positions: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    face_index: Tensor,
    grad_positions: Tensor,
    perspective: bool,
    clip: bool,
    threads: int,
    /,
    *scratch: Tensor,  # CUDA only: first, sums
) -> None: ...
def interpolate(
    attributes: Tensor, faces: Tensor, face_index: Tensor, barycentrics: Tensor, out: Tensor, threads: int, /
) -> None: ...
def interpolate_grad(
    grad: Tensor,
    attributes: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    face_index: Tensor,
    barycentrics: Tensor,
    grad_attributes: Tensor,
    grad_barycentrics: Tensor,
    boxes: Tensor | None,
    threads: int,
    /,
) -> None: ...
def render_sh(
    scene: tuple[Tensor, ...],
    image: Tensor,
    mask: Tensor,
    face_index: Tensor,
    barycentrics: Tensor,
    depth: Tensor,
    positions: Tensor,
    colors: Tensor | None,
    keys: Tensor | None,
    spill: Tensor | None,
    coverage: int,
    cull: int,
    perspective: bool,
    highest: bool,
    orthographic: bool,
    focus: bool,
    threads: int,
    /,
) -> None: ...
def render_sh_grad(
    grads: tuple[Tensor | None, ...],
    scene: tuple[Tensor, ...],
    positions: Tensor,
    face_index: Tensor,
    outs: tuple[Tensor, ...],
    colors: Tensor | None,
    grad_sums: Tensor | None,
    partial: Tensor | None,
    perspective: bool,
    orthographic: bool,
    focus: bool,
    threads: int,
    /,
    *scratch: Tensor,  # CUDA only: first, sums
) -> None: ...
def antialias(
    image: Tensor,
    positions: Tensor,
    faces: Tensor,
    opposite: Tensor,
    face_index: Tensor,
    depth: Tensor,
    out: Tensor,
    edges: Tensor,
    threads: int,
    /,
) -> None: ...
def antialias_grad(
    grad: Tensor,
    image: Tensor,
    positions: Tensor,
    faces: Tensor,
    offsets: Tensor,
    corners: Tensor,
    edges: Tensor,
    grad_image: Tensor | None,
    grad_positions: Tensor | None,
    seen: Tensor | None,
    threads: int,
    /,
) -> None: ...
def masked_pixel_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    loss: Tensor,
    sums: Tensor,
    kind: int,
    scale: float,
    offset: float,
    threshold: float | None,
    reduction: int,
    threads: int,
    /,
) -> None: ...
def masked_pixel_loss_grad(
    grad: Tensor,
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    sums: Tensor,
    grad_target: Tensor | None,
    grad_rendered: Tensor | None,
    grad_mask: Tensor | None,
    kind: int,
    scale: float,
    offset: float,
    threshold: float | None,
    reduction: int,
    threads: int,
    /,
) -> None: ...
def inlier_mask(
    target: Tensor, rendered: Tensor, mask: Tensor, out: Tensor, threshold: float, threads: int, /
) -> None: ...
def neighbor_min_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    out: Tensor,
    winner: Tensor,
    sums: Tensor,
    modes: tuple[int, int, int, int, int, int],
    threads: int,
    /,
) -> None: ...
def neighbor_min_loss_grad(
    grad: Tensor,
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    winner: Tensor,
    sums: Tensor,
    grad_target: Tensor | None,
    grad_rendered: Tensor | None,
    grad_mask: Tensor | None,
    modes: tuple[int, int, int, int, int, int],
    threads: int,
    /,
) -> None: ...
