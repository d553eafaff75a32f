"""The drop-ins under their upstreams' module names, for programs whose imports are not to be changed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn

from .. import _checks

_HERE = __name__.rpartition(".")[0]

# package -> its modules, parents first -> the names in each, and where below `focus_kernels.compat` they come from;
# "*" stands for all of `__all__`
_MESHES = {"Meshes": "pytorch3d.structures"}
_JOINS = dict.fromkeys(("join_meshes_as_batch", "join_meshes_as_scene"), "pytorch3d.structures")
_TEXTURES = {"TexturesVertex": "pytorch3d.textures"}
_RASTERIZE = {"rasterize_meshes": "pytorch3d.rasterize"}
_OBJ = dict.fromkeys(("load_obj", "load_objs_as_meshes", "save_obj"), "pytorch3d.io")
_SIM3DR = dict.fromkeys(("get_normal", "rasterize"), "sim3dr")
_LIGHTING = {"RenderPipeline": "sim3dr"}
PACKAGES: dict[str, dict[str, dict[str, str]]] = {
    "nvdiffrast": {
        "nvdiffrast": {},
        "nvdiffrast.torch": {"*": "nvdiffrast"},
    },
    "pytorch3d": {
        "pytorch3d": {},
        "pytorch3d.structures": _MESHES | _JOINS,
        "pytorch3d.structures.meshes": _MESHES | _JOINS,
        "pytorch3d.renderer": _RASTERIZE | _TEXTURES,
        "pytorch3d.renderer.mesh": _RASTERIZE | _TEXTURES,
        "pytorch3d.renderer.mesh.rasterize_meshes": _RASTERIZE,
        "pytorch3d.renderer.mesh.textures": _TEXTURES,
        "pytorch3d.io": _OBJ,
        "pytorch3d.io.obj_io": _OBJ,
    },
    "Sim3DR": {
        "Sim3DR": _SIM3DR | _LIGHTING,
        "Sim3DR.Sim3DR": _SIM3DR,
        "Sim3DR.lighting": _SIM3DR | _LIGHTING,
    },
}

_replaced: dict[str, dict[str, ModuleType]] = {}  # installed package -> the modules that `force` took away


def install(*names: str, force: bool = False) -> tuple[str, ...]:
    """Let ``import nvdiffrast.torch``, ``import pytorch3d`` and ``import Sim3DR`` find the drop-ins.

    Call it once, before the program's own imports. A package that is installed, or imported already, is left alone; a
    directory without ``__init__.py`` is not a package here. Only what is registered is imported. Calling it again is
    harmless.

    Args:
        names: "nvdiffrast", "pytorch3d", "Sim3DR"; none means all three.
        force: register also over installed and imported packages. What was imported from them before stays in use
            where it was imported.

    Returns:
        Those of the packages that are drop-ins now.

    Raises:
        TypeError, ValueError: a name is not one of the three, or `force` not a bool.
    """
    for name in names:
        _checks.choice("install", "names", name, dict.fromkeys(PACKAGES, 0))
    _checks.flag("install", "force", force)
    wanted = list(dict.fromkeys(names or PACKAGES))
    new = [name for name in wanted if name not in _replaced and (force or not _is_present(name))]
    for name in new:
        for module in PACKAGES[name]:
            dict(_served(module))  # whatever fails to import fails here, with nothing changed
    for name in new:
        _replaced[name] = {key: sys.modules.pop(key) for key in _loaded(name)}
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)
        importlib.import_module(name)
    return tuple(name for name in wanted if name in _replaced)


def uninstall() -> None:
    """Undo every `install`: the drop-ins' modules go, and those that `force` replaced come back."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name, before in _replaced.items():
        for key in _loaded(name):
            if getattr(sys.modules[key], "__loader__", None) is _FINDER:
                del sys.modules[key]
        for key, module in before.items():
            sys.modules.setdefault(key, module)
    _replaced.clear()


class _Finder(MetaPathFinder, Loader):
    """Finds and makes the modules of installed packages; refuses what upstream has and they have not, with a reason."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        if package not in _replaced:
            return None
        if fullname not in PACKAGES[package]:
            # also `from package import name` comes here; it would swallow an error that bears the module's name
            raise ModuleNotFoundError(_refusal(*fullname.rsplit(".", 1)))
        # all are packages, so that `from module import name` comes here, too
        return ModuleSpec(fullname, self, origin=f"{_HERE}.{_source(package)}", is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        children = [key for key in PACKAGES[name.partition(".")[0]] if key.rpartition(".")[0] == name]
        for child in children:
            importlib.import_module(child)
        # after the children, because upstream, too, has a function of the same name as its module
        served = dict(_served(name))
        public = sorted({*served, *(child.rpartition(".")[2] for child in children)})

        def refuse(attribute: str) -> NoReturn:
            raise AttributeError(_refusal(name, attribute), name=attribute, obj=module)

        vars(module).update(served, __all__=public, __getattr__=refuse)
        module.__doc__ = f"The drop-in of focus_kernels for {name}."


_FINDER = _Finder()


def _source(package: str) -> str:
    """The drop-in of a package, below `focus_kernels.compat`."""
    return next(source for names in PACKAGES[package].values() for source in names.values()).partition(".")[0]


def _served(module: str) -> Iterator[tuple[str, object]]:
    for name, source in PACKAGES[module.partition(".")[0]][module].items():
        drop_in = importlib.import_module(f"{_HERE}.{source}")
        for public in drop_in.__all__ if name == "*" else [name]:
            yield public, getattr(drop_in, public)


def _refusal(module: str, name: str) -> str:
    package = module.partition(".")[0]
    served = ", ".join(key for key, _ in _served(module)) or "no names"
    others = ", ".join(PACKAGES[package])
    return f"{module} is a drop-in of focus_kernels and has no {name}. It serves {served}; its modules are {others}"


def _loaded(package: str) -> list[str]:
    return [key for key in sys.modules if key == package or key.startswith(f"{package}.")]


def _is_present(package: str) -> bool:
    if sys.modules.get(package) is not None:
        return True
    spec = find_spec(package)
    return spec is not None and spec.loader is not None  # a bare directory has no loader
