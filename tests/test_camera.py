"""Camera: projection against numpy, gradients also where nothing can be projected, and its checks."""

import copy
import pickle

import numpy as np
import pytest
import torch
from meshes import scene

import focus_kernels as fk

KINDS = pytest.mark.parametrize("orthographic", [False, True], ids=["perspective", "orthographic"])


def camera(orthographic=False, B=3, grad=False):
    tensors = scene(3, B, 4, (30, 40), orthographic)
    K, R, t = (tensors[name].requires_grad_(grad) for name in "KRt")
    return fk.Camera(K, R, t, orthographic=orthographic), tensors["vertices"].requires_grad_(grad)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_matches_numpy(orthographic, dtype):
    cam, vertices = camera(orthographic)
    for b, got in enumerate(cam.to(dtype).project(vertices.to(dtype))):
        K, R, t = cam.K[b].numpy(), cam.R[b].numpy(), cam.t[b].numpy()
        X = vertices[b].numpy() @ R.T + t
        if orthographic:
            xy = X[:, :2] @ K[:2, :2].T + K[:2, 2]
        else:
            xy = X @ K[:2].T / X[:, 2:]
        want = torch.from_numpy(np.concatenate([xy, X[:, 2:]], 1))
        assert got.dtype == dtype
        # A dozen roundings of depths around 1000.
        torch.testing.assert_close(got.double(), want, rtol=0, atol=12 * 1000 * torch.finfo(dtype).eps)


def test_a_known_point():
    """FOCUS's camera: the origin of the model is in the middle of the picture, +x goes right, +y goes up."""
    K = torch.tensor([[[1014.72, 0, 112], [0, 1014.72, 112], [0, 0, 1]]])
    cam = fk.Camera(K, torch.diag(torch.tensor([1.0, -1, -1]))[None], torch.tensor([[0, 0, 1000.0]]))
    points = torch.tensor([[[0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 500]]]).float()
    want = torch.tensor([[[112, 112, 1000], [213.472, 112, 1000], [112, 10.528, 1000], [112, 112, 500]]])
    torch.testing.assert_close(cam.project(points), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "batches", [(1, 1, 1, 3), (3, 1, 1, 3), (1, 3, 1, 3), (1, 1, 3, 3), (3, 3, 3, 1), (3, 1, 3, 1)]
)
def test_batches_broadcast(batches):
    cam, vertices = camera()
    parts = [value[:size] for value, size in zip((cam.K, cam.R, cam.t, vertices), batches, strict=True)]
    got = fk.Camera(*parts[:3]).project(parts[3])
    full = [part.expand(3, *part.shape[1:]) for part in parts]
    assert got.shape == (3, *vertices.shape[1:])
    torch.testing.assert_close(got, fk.Camera(*full[:3]).project(full[3]), rtol=0, atol=0)


@KINDS
def test_gradcheck(orthographic):
    cam, vertices = camera(orthographic, B=2, grad=True)
    call = lambda K, R, t, v: fk.Camera(K, R, t, orthographic=orthographic).project(v)
    inputs = (cam.K, cam.R, cam.t, vertices[:, :6].detach().requires_grad_())
    assert torch.autograd.gradcheck(call, inputs)
    grad = torch.autograd.grad(call(*inputs).sum(), inputs[0])[0]
    assert grad[:, 2].eq(0).all() and grad[:, :2].ne(0).all()  # the last row of K is (0, 0, 1) by definition


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_what_cannot_be_projected_has_no_gradient(orthographic, dtype):
    """Vertices in the plane of the eye, not finite, or too far: whatever comes back, the other gradients are clean."""
    R, t = torch.eye(3, dtype=dtype)[None], torch.zeros(1, 3, dtype=dtype)
    K = torch.tensor([[[2.0, 0, 3], [0, 2, 3], [0, 0, 1]]], dtype=dtype)
    inf, nan = torch.inf, torch.nan
    rows = [[1, 1, 0], [0, 0, 0], [nan, 0, 1], [0, inf, 1], [0, 0, -inf], [1, 1, 1e-19], [1, 1, 1e19], [1e19, 0, 1]]
    count = 5 if orthographic else len(rows)
    first = 2 if orthographic else 0
    vertices = torch.tensor([*rows[first:count], [1, 2, 4], [1, 2, -4]], dtype=dtype)[None]
    leaves = [value.clone().requires_grad_() for value in (K, R, t, vertices)]
    positions = fk.Camera(*leaves[:3], orthographic=orthographic).project(leaves[3])
    bad = count - first
    grads = torch.autograd.grad(positions, leaves, torch.ones_like(positions))
    assert grads[3][0, :bad].eq(0).all() and grads[3][0, bad:].ne(0).any(1).all()  # behind the camera there is one
    clean = [value.clone().requires_grad_() for value in (K, R, t, vertices[:, bad:])]
    positions = fk.Camera(*clean[:3], orthographic=orthographic).project(clean[3])
    for got, want in zip(grads[:3], torch.autograd.grad(positions, clean, torch.ones_like(positions)), strict=False):
        torch.testing.assert_close(got, want)


def test_copies_moves_and_repr():
    cam, vertices = camera()
    want = cam.project(vertices)
    for other in (copy.deepcopy(cam), pickle.loads(pickle.dumps(cam)), cam.to("cpu"), cam.to(torch.float64)):
        assert other.project(vertices).equal(want) and other.orthographic is False
    assert cam.to(torch.float32).K.dtype == torch.float32
    assert repr(cam) == "Camera(batch=3, perspective, torch.float64, 'cpu')"


def test_autocast():
    cam, vertices = camera()
    half = [value.bfloat16() for value in (cam.K, cam.R, cam.t, vertices)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fk.Camera(*half[:3]).project(half[3])
    wide = [value.float() for value in half]
    assert got.equal(fk.Camera(*wide[:3]).project(wide[3]))
    with pytest.raises(TypeError, match=r"Camera\(\): expected K to be float32 or float64, got bfloat16"):
        fk.Camera(*half[:3])


EYE, ZERO = torch.eye(3)[None], torch.zeros(1, 3)
ERRORS = [
    ((1, EYE, ZERO), {}, TypeError, "K to be a torch.Tensor, got int"),
    ((EYE.int(), EYE, ZERO), {}, TypeError, "K to be float32 or float64, got int32"),
    ((EYE, EYE.double(), ZERO), {}, TypeError, "R to be float32 as K, got float64"),
    ((EYE, EYE, ZERO.to("meta")), {}, ValueError, "t to be on cpu as K, got meta"),
    ((EYE[0], EYE, ZERO), {}, ValueError, r"K to be shape \[\*, 3, 3\], got \[3, 3\]"),
    ((EYE, torch.zeros(1, 3, 4), ZERO), {}, ValueError, r"R to be shape \[\*, 3, 3\], got \[1, 3, 4\]"),
    ((EYE, EYE, torch.zeros(1, 3, 1)), {}, ValueError, r"t to be shape \[\*, 3\], got \[1, 3, 1\]"),
    ((EYE.expand(2, 3, 3), EYE.expand(3, 3, 3), ZERO), {}, ValueError, "R to be a batch of 1 or 2, got 3"),
    ((EYE, EYE, ZERO), {"orthographic": 1}, TypeError, "orthographic to be a bool, got int"),
]


@pytest.mark.parametrize("args, options, kind, message", ERRORS)
def test_errors(args, options, kind, message):
    with pytest.raises(kind, match=r"Camera\(\): expected " + message):
        fk.Camera(*args, **options)


def test_projection_errors():
    cam, vertices = camera()
    with pytest.raises(
        ValueError, match=r"Camera.project\(\): expected vertices to be shape \[\*, \*, 3\], got \[3, 2\]"
    ):
        cam.project(torch.zeros(3, 2).double())
    with pytest.raises(TypeError, match=r"Camera.project\(\): expected vertices to be float64 as K, got float32"):
        cam.project(vertices.float())
    with pytest.raises(ValueError, match=r"Camera.project\(\): expected K to be a batch of 1 or 2 as vertices, got 3"):
        cam.project(vertices[:2])
