"""`compat.install`: unmodified programs run on the drop-ins, and nothing that is installed is touched."""

import importlib
import inspect
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from focus_kernels.compat import _install, install, uninstall
from focus_kernels.compat._install import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
MODULES = [(package, module) for package, modules in PACKAGES.items() for module in modules]

# the import lines are those of Deep3DFaceRecon_pytorch (nvdiffrast), DECA and EMOCA (pytorch3d), 3DDFA_V2 (Sim3DR)
PROGRAMS = {
    "nvdiffrast": """
        import nvdiffrast.torch as dr
        import torch
        context = dr.RasterizeGLContext(device="cpu")
        pos = torch.tensor([[[-1.0, -1.0, 0.0, 1.0], [3.0, -1.0, 0.0, 1.0], [-1.0, 3.0, 0.0, 1.0]]])
        tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
        rast, db = dr.rasterize(context, pos, tri, resolution=[4, 4])
        assert (rast[..., 3] == 1).all()
        uv, uv_da = dr.interpolate((pos[..., :2] + 1) / 2, rast, tri, rast_db=db, diff_attrs="all")
        # 4 x 4 pixels look at the centres of 4 x 4 texels, one texel wide each
        picture = torch.rand(1, 4, 4, 3)
        out = dr.texture(picture, uv, uv_da, filter_mode="linear-mipmap-linear")
        torch.testing.assert_close(out, picture, rtol=0, atol=1e-5)
        torch.testing.assert_close(dr.antialias(out, rast, pos, tri), out)
    """,
    "pytorch3d": """
        from pytorch3d.structures import Meshes
        from pytorch3d.io import load_obj
        from pytorch3d.renderer.mesh import rasterize_meshes
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes as same
        import pytorch3d.renderer.mesh.rasterize_meshes
        import pytorch3d.renderer.mesh
        assert same is rasterize_meshes is pytorch3d.renderer.mesh.rasterize_meshes
        with open("triangle.obj", "w") as file:
            file.write("v -3 -1 2\\nv 3 -1 2\\nv 0 5 2\\nvt 0 0\\nf 1/1 2/1 3/1\\n")
        verts, faces, aux = load_obj("triangle.obj")
        meshes = Meshes(verts=verts[None], faces=faces.verts_idx[None])
        pix_to_face, zbuf, bary, dists = rasterize_meshes(
            meshes, image_size=4, blur_radius=0.0, faces_per_pixel=1, bin_size=None, max_faces_per_bin=None,
            perspective_correct=False,
        )
        assert (pix_to_face == 0).all() and abs(zbuf - 2).max() < 1e-5 and aux.verts_uvs.shape == (1, 2)
    """,
    "Sim3DR": """
        import numpy as np
        from Sim3DR import RenderPipeline, get_normal, rasterize
        from Sim3DR.lighting import RenderPipeline as same
        assert same is RenderPipeline
        vertices = np.array([[-1, -1, 1], [-1, 20, 1], [20, -1, 1]], dtype=np.float32)
        triangles = np.array([[0, 1, 2]], dtype=np.int32)
        colors = np.ones((3, 3), dtype=np.float32)
        background = np.zeros((4, 4, 3), dtype=np.uint8)
        assert (rasterize(vertices, triangles, colors, bg=background) == 255).all()
        assert np.allclose(abs(get_normal(vertices, triangles)), [0, 0, 1])
        config = {
            "intensity_ambient": 0.3, "color_ambient": (1, 1, 1), "intensity_directional": 0.6,
            "color_directional": (1, 1, 1), "intensity_specular": 0.1, "specular_exp": 5,
            "light_pos": (0, 0, 5), "view_pos": (0, 0, 5),
        }
        assert RenderPipeline(**config)(vertices, triangles, np.zeros((4, 4, 3), dtype=np.uint8)).any()
    """,
}


def run(code, cwd=ROOT, **options):
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skip_if_installed(package):
    if package in sys.modules or find_spec(package):
        pytest.skip(f"{package} is installed")


@pytest.fixture
def clean():
    """No drop-in is installed before the test and after."""
    uninstall()
    before = list(sys.meta_path)
    yield
    uninstall()
    assert sys.meta_path == before
    assert not [key for key in sys.modules if _is_drop_in(key)]


def _is_drop_in(name):
    return name.partition(".")[0] in PACKAGES and sys.modules[name].__loader__ is _install._FINDER


def fake(folder, package, **modules):
    """A package that is installed: modules by name, "" for the package itself."""
    path = folder / package
    path.mkdir()
    for name, text in {"init": "", **modules}.items():
        (path / f"{'__init__' if name == 'init' else name}.py").write_text(text)
    return path


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for key in [key for key in sys.modules if key.partition(".")[0] in PACKAGES]:
        del sys.modules[key]


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unmodified_program_runs(package, tmp_path):
    (tmp_path / "program.py").write_text(inspect.cleandoc(PROGRAMS[package]))
    run(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from focus_kernels.compat import install\n"
        f"install({package!r}, force=True)\n"
        "import runpy; runpy.run_path('program.py')",
        cwd=tmp_path,
    )


@pytest.mark.parametrize("package, module", MODULES, ids=[module for _, module in MODULES])
def test_each_module_serves_the_names_of_the_table(package, module, clean):
    skip_if_installed(package)
    assert install(package) == (package,)
    found = find_spec(module)
    loaded = importlib.import_module(module)
    assert found is loaded.__spec__ and found.name == module == loaded.__name__
    assert loaded.__path__ == [] and loaded.__package__ == module
    assert loaded.__spec__.origin.startswith("focus_kernels.compat.")
    for name, source in PACKAGES[package][module].items():
        drop_in = importlib.import_module(f"focus_kernels.compat.{source}")
        for public in drop_in.__all__ if name == "*" else [name]:
            assert getattr(loaded, public) is getattr(drop_in, public)
            assert public in loaded.__all__
    parent, _, child = module.rpartition(".")
    if parent:
        assert child in dir(sys.modules[parent])
    scope = {}
    exec(f"from {module} import *", scope)
    assert set(loaded.__all__) <= set(scope)


def test_the_function_is_not_hidden_by_the_module_of_its_name(clean):
    skip_if_installed("pytorch3d")
    install("pytorch3d")
    function = importlib.import_module("focus_kernels.compat.pytorch3d").rasterize_meshes
    for _ in range(2):
        import pytorch3d.renderer.mesh
        import pytorch3d.renderer.mesh.rasterize_meshes
        from pytorch3d.renderer.mesh import rasterize_meshes

        assert pytorch3d.renderer.mesh.rasterize_meshes is rasterize_meshes is function
        # as when a test runner forgets what it imported
        for key in [key for key in sys.modules if key.startswith("pytorch3d.")]:
            del sys.modules[key]
        importlib.reload(pytorch3d)


def test_a_second_call_changes_nothing(clean):
    skip_if_installed("Sim3DR")
    assert install("Sim3DR") == ("Sim3DR",)
    before, path = dict(sys.modules), list(sys.meta_path)
    assert install("Sim3DR") == ("Sim3DR",)
    assert install("Sim3DR", "Sim3DR", force=True) == ("Sim3DR",)
    assert sys.modules == before and sys.meta_path == path
    uninstall()
    uninstall()
    assert find_spec("Sim3DR") is None and "Sim3DR.lighting" not in sys.modules


def test_all_three_by_default_and_only_what_is_absent(clean, site):
    for package in PACKAGES:
        skip_if_installed(package)
    assert install() == tuple(PACKAGES)
    uninstall()
    fake(site, "pytorch3d")
    importlib.invalidate_caches()
    assert install() == ("nvdiffrast", "Sim3DR")


@pytest.mark.parametrize("imported", [False, True])
def test_an_installed_package_is_left_alone_unless_forced_and_comes_back(clean, site, imported):
    skip_if_installed("nvdiffrast")
    fake(site, "nvdiffrast", init="here = 1", torch="def rasterize(): return 'theirs'", other="")
    importlib.invalidate_caches()
    if imported:
        import nvdiffrast.torch as theirs
    before = {key: module for key, module in sys.modules.items() if key.partition(".")[0] == "nvdiffrast"}
    assert len(before) == (2 if imported else 0)

    assert install("nvdiffrast") == ()
    assert sys.modules.get("nvdiffrast") is before.get("nvdiffrast")
    assert install("nvdiffrast", force=True) == ("nvdiffrast",)
    import nvdiffrast.torch as ours

    assert ours.__spec__.origin == "focus_kernels.compat.nvdiffrast" and callable(ours.texture)
    with pytest.raises(ImportError, match="nvdiffrast is a drop-in of focus_kernels and has no other"):
        import nvdiffrast.other
    if imported:
        assert theirs.rasterize() == "theirs"

    uninstall()
    assert {key: sys.modules.get(key) for key in before} == before
    import nvdiffrast.other
    import nvdiffrast.torch

    assert nvdiffrast.here == 1 and nvdiffrast.torch.rasterize() == "theirs"
    if imported:
        assert nvdiffrast.torch is theirs


def test_an_imported_package_that_nothing_can_find_is_left_alone(clean, site):
    skip_if_installed("Sim3DR")
    module = type(sys)("Sim3DR")  # it has no spec
    sys.modules["Sim3DR"] = module
    assert install("Sim3DR") == ()
    assert install("Sim3DR", force=True) == ("Sim3DR",)
    assert sys.modules["Sim3DR"] is not module
    uninstall()
    assert sys.modules["Sim3DR"] is module


def test_a_bare_directory_is_no_package(clean, site):
    skip_if_installed("nvdiffrast")
    (site / "nvdiffrast").mkdir()
    importlib.invalidate_caches()
    assert find_spec("nvdiffrast") is not None
    assert install("nvdiffrast") == ("nvdiffrast",)


def test_uninstall_leaves_what_others_put_there(clean, site):
    skip_if_installed("Sim3DR")
    install("Sim3DR")
    theirs = type(sys)("Sim3DR.extra")
    sys.modules["Sim3DR.extra"] = theirs
    uninstall()
    assert sys.modules["Sim3DR.extra"] is theirs and "Sim3DR" not in sys.modules


def test_what_is_not_served_is_refused_with_what_is(clean):
    skip_if_installed("pytorch3d")
    install("pytorch3d")
    served = r"It serves rasterize_meshes, TexturesVertex; its modules are pytorch3d, .*pytorch3d\.io"
    with pytest.raises(ImportError, match=rf"pytorch3d\.renderer is a drop-in .* no MeshRenderer\. {served}"):
        from pytorch3d.renderer import MeshRenderer  # noqa: F401
    with pytest.raises(ImportError, match=r"pytorch3d is a drop-in of focus_kernels and has no transforms\."):
        import pytorch3d.transforms
    with pytest.raises(ImportError, match=r"pytorch3d is a drop-in of focus_kernels and has no transforms\."):
        from pytorch3d.transforms import so3_exp_map  # noqa: F401
    with pytest.raises(ImportError, match=r"mesh\.textures is a drop-in .* no TexturesUV\. It serves TexturesVertex;"):
        from pytorch3d.renderer.mesh.textures import TexturesUV  # noqa: F401
    import pytorch3d.renderer

    with pytest.raises(AttributeError, match=rf"pytorch3d\.renderer is a drop-in .* no look_at\. {served}"):
        pytorch3d.renderer.look_at  # noqa: B018
    assert not hasattr(pytorch3d, "transforms") and not hasattr(pytorch3d, "__version__")
    assert repr(pytorch3d) == "<module 'pytorch3d' (focus_kernels.compat.pytorch3d)>"


def test_a_drop_in_that_fails_to_import_changes_nothing(clean, monkeypatch):
    skip_if_installed("Sim3DR")
    monkeypatch.setitem(PACKAGES["Sim3DR"], "Sim3DR.lighting", {"RenderPipeline": "no_such_module"})
    before = set(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        install("Sim3DR")
    assert not {key for key in set(sys.modules) - before if key.startswith("Sim3DR")}
    assert find_spec("Sim3DR") is None


def test_only_what_is_registered_is_imported():
    out = run(
        "import sys\n"
        "import focus_kernels.compat\n"
        "from focus_kernels.compat import install\n"
        "loaded = lambda: {k.split('.')[2] for k in sys.modules if k.startswith('focus_kernels.compat.')}\n"
        "print(loaded() & {'nvdiffrast', 'pytorch3d', 'sim3dr', 'focus', 'deca', 'deep3d'})\n"
        "install('Sim3DR', force=True)\n"
        "print(sorted(loaded() & {'nvdiffrast', 'pytorch3d', 'sim3dr', 'focus', 'deca', 'deep3d'}))\n"
        "print('pytorch3d' in sys.modules)"
    )
    assert out.split("\n")[:3] == ["set()", "['sim3dr']", "False"]


def test_errors_and_signature(clean):
    with pytest.raises(ValueError, match=r"install\(\): expected names to be one of 'nvdiffrast', .* got 'torch'"):
        install("torch")
    with pytest.raises(TypeError, match=r"install\(\): expected names .* got int"):
        install(1)
    with pytest.raises(TypeError, match=r"install\(\): expected force to be a bool, got int"):
        install("Sim3DR", force=1)
    parameters = inspect.signature(install).parameters
    assert [(p.name, p.kind, p.default) for p in parameters.values()] == [
        ("names", inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.empty),
        ("force", inspect.Parameter.KEYWORD_ONLY, False),
    ]
    assert not inspect.signature(uninstall).parameters
