"""`TexturesVertex` against its definition written out one pixel at a time in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch3d_meshes import batch, library, part

from focus_kernels.compat.pytorch3d import Meshes, TexturesVertex, rasterize_meshes


@pytest.fixture(params=["ours", "pytorch3d"])
def lib(request):
    return library(request.param)


def test_textures_learn_their_padding_from_the_meshes(lib):
    verts, faces = batch()
    padded = torch.rand(3, 9, 4)
    textures = lib.TexturesVertex(padded)
    assert [len(item) for item in textures.verts_features_list()] == [9, 9, 9]
    textures = lib.TexturesVertex(padded)
    lib.Meshes(verts, faces, textures)
    assert [len(item) for item in textures.verts_features_list()] == [6, 4, 9]
    assert torch.equal(textures.verts_features_packed(), torch.cat([padded[0, :6], padded[1, :4], padded[2]]))
    listed = lib.TexturesVertex([padded[0, :6], padded[1, :4]])
    assert listed.verts_features_padded().shape == (2, 6, 4) and not listed.verts_features_padded()[1, 4:].any()
    assert listed.check_shapes(2, 6, 1) and not listed.check_shapes(2, 7, 1) and not listed.check_shapes(1, 6, 1)


def fragments(num_faces, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    pix_to_face = torch.randint(-1, num_faces, (2, 3, 5, 2), generator=generator)
    bary = torch.rand(2, 3, 5, 2, 3, generator=generator).to(dtype)
    bary = torch.where(pix_to_face[..., None] < 0, -1, bary)
    return SimpleNamespace(pix_to_face=pix_to_face, bary_coords=bary)


def test_sampled_textures_pixel_by_pixel(lib):
    parts = [part(0, 6, 5), part(1, 4, 2)]
    verts, faces = [v for v, _ in parts], [f for _, f in parts]
    features = [torch.rand(len(v), 4) for v in verts]
    seen = fragments(7)
    meshes = lib.Meshes(verts, faces, lib.TexturesVertex(features))
    texels = meshes.sample_textures(seen)
    assert texels.shape == (2, 3, 5, 2, 4) and texels.dtype == torch.float32
    values, corners = torch.cat(features).double().numpy(), meshes.faces_packed().tolist()
    assert (seen.pix_to_face < 0).any() and (seen.pix_to_face == 6).any()
    for place in np.ndindex(2, 3, 5, 2):
        face = int(seen.pix_to_face[place])
        weights = seen.bary_coords[place].double().numpy()
        expected = weights @ values[corners[face]] if face >= 0 else np.zeros(4)
        np.testing.assert_allclose(texels[place].numpy(), expected, rtol=1e-6, atol=1e-6)  # three float32 products
    gathered = meshes.textures.faces_verts_textures_packed(meshes.faces_packed())
    np.testing.assert_array_equal(gathered.numpy(), values[np.array(corners)].astype(np.float32))


def test_gradients_of_sampled_textures():
    faces = torch.tensor([[0, 1, 2], [3, 2, 1]])
    features = torch.rand(2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen = fragments(4, dtype=torch.float64)
    bary = seen.bary_coords.requires_grad_()
    packed = Meshes(torch.rand(2, 4, 3), faces.expand(2, -1, -1)).faces_packed()

    def sample(features, bary):
        pixels = SimpleNamespace(pix_to_face=seen.pix_to_face, bary_coords=bary)
        return TexturesVertex(features).sample_textures(pixels, packed)

    assert torch.autograd.gradcheck(sample, (features, bary))
    sample(features, bary).sum().backward()
    assert not bary.grad[seen.pix_to_face < 0].any()


def test_textures_of_rasterized_meshes(device):
    # a triangle that covers the image, in front of another: its corner colours are the position itself
    corners = torch.tensor([[3.0, -3.0, 1.0], [-3.0, -3.0, 1.0], [0.0, 6.0, 1.0]], dtype=torch.float64, device=device)
    verts = torch.cat([corners, corners + corners.new_tensor([0.0, 0.0, 1.0])]).requires_grad_()
    meshes = Meshes([verts], [torch.arange(6, device=device).view(2, 3)], TexturesVertex([verts.detach()[:, :2]]))
    out = rasterize_meshes(meshes, 8)
    texels = meshes.sample_textures(out)[0, :, :, 0]
    centres = 1 - (2 * torch.arange(8, dtype=torch.float64) + 1) / 8
    expected = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)
    torch.testing.assert_close(
        texels.cpu(), expected, rtol=0, atol=1e-8
    )  # the triangle's 1e-8 over its doubled area of 54
    texels.sum().backward()
    assert verts.grad[:3].any() and not verts.grad[3:].any()


def test_errors():
    def fails(kind, message, function, *arguments):
        with pytest.raises(kind, match=message):
            function(*arguments)

    fails(TypeError, "all float32 or all float64", TexturesVertex, [torch.zeros(2, 3).half()])
    fails(ValueError, r"verts_features to be shape \[\*, 3\]", TexturesVertex, [torch.zeros(2, 3), torch.zeros(2, 4)])
    fails(ValueError, r"verts_features to be shape \[\*, \*, \*\]", TexturesVertex, torch.zeros(2, 3))
    textures, seen = TexturesVertex([torch.rand(3, 3)] * 2), fragments(2)
    packed = torch.tensor([[0, 1, 2], [3, 4, 5]])
    fails(ValueError, "faces_packed to be given", textures.sample_textures, seen)
    fails(ValueError, r"faces to be in \[0, 6\), got 7", textures.sample_textures, seen, packed + 2)
    seen.bary_coords = seen.bary_coords.double()
    fails(TypeError, "bary_coords to be float32 as verts_features", textures.sample_textures, seen, packed)
    seen.bary_coords = seen.bary_coords.float()[:, :2]
    fails(ValueError, r"bary_coords to be shape \[2, 3, 5, 2, 3\]", textures.sample_textures, seen, packed)
