"""Weights of networks in files: our own safetensors files, and state dicts that other programs wrote."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..tensor_file import Array, read_tensors, write_tensors

FORMAT = "focus-network"
VERSION = "1"
ASSETS = Path(__file__).parents[1] / "assets"

# The classes that a file may name, their modules, and what their constructors take from the file.
_CLASSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "ReconstructionNetwork": (".resnet", ("outputs",)),
    "SmallEncoder": (".small", ("outputs",)),
    "SegmentationNetwork": (".unet", ("width", "dropout")),
    "FaceRecognizer": (".recognizer", ()),
}
_NAMED = 5  # keys that a message names before it counts

Network = TypeVar("Network", bound=nn.Module)


def save_network(
    path: str | os.PathLike[str],
    network: nn.Module,
    *,
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a network's weights and buffers to a safetensors file, atomically, the same bytes for the same content.

    The metadata holds `format` ("focus-network"), `version` and `network`, a JSON object with the `class` and what
    its constructor took, so that `load_network` needs nothing else.

    Args:
        path: the file; its folder must exist.
        network: a ReconstructionNetwork, SmallEncoder, SegmentationNetwork or FaceRecognizer, on any device.
        half: store matrices and kernels as float16 rather than float32: half the size, up to 1 part in 2048 off. Biases
            and batch statistics stay float32.
        metadata: further texts, such as the licence or the recipe.

    Raises:
        TypeError: another class of network, or one inside a wrapper such as DistributedDataParallel.
        ValueError: a weight that float16 cannot hold, or a metadata key that the format needs itself.
        OSError: the file cannot be written; an old file stays as it was.
    """
    config = describe_network(network, "save_network")
    texts = dict(metadata or {})
    if taken := sorted({"format", "version", "network", "checksum"} & texts.keys()):
        raise ValueError(f"save_network(): expected metadata without the key {taken[0]!r}, which the format uses")
    texts |= {"format": FORMAT, "version": VERSION, "network": json.dumps(config, sort_keys=True)}
    arrays = network_arrays(network, "save_network", half=half)
    write_tensors(path, arrays, texts)


def describe_network(network: nn.Module, caller: str) -> dict[str, Any]:
    """The `class` of a network and what its constructor took, of which `make_network` makes one like it.

    Raises:
        TypeError: a class that no file may name, or a wrapper such as DistributedDataParallel.
    """
    name = type(network).__name__
    if name not in _CLASSES:
        raise TypeError(f"{caller}(): expected network to be one of {', '.join(_CLASSES)}, got {name}")
    return {"class": name, **{key: getattr(network, key) for key in _CLASSES[name][1]}}


def network_arrays(network: nn.Module, caller: str, *, half: bool = False) -> dict[str, Array]:
    """Weights and buffers as arrays by name, float32, or float16 for matrices and kernels where `half`.

    Raises:
        ValueError: a weight that float16 cannot hold.
    """
    arrays: dict[str, Array] = {}
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            narrow = half and value.ndim > 1
            stored = value.detach().to("cpu", torch.float16 if narrow else torch.float32)
            if narrow and not torch.equal(stored.isfinite(), value.detach().cpu().isfinite()):
                raise ValueError(f"{caller}(): expected {key} to be within float16's range to be stored as half")
            value = stored
        arrays[key] = value.cpu().numpy()
    return arrays


def make_network(
    config: Mapping[str, Any], arrays: Mapping[str, Array], path: str | os.PathLike[str], caller: str
) -> nn.Module:
    """The network of a `describe_network` and `network_arrays` that were read from `path`, in evaluation mode.

    Random numbers drawn later do not change by it.

    Raises:
        ValueError: the file does not describe a network that there is, or its weights do not fit.
    """
    config = dict(config)
    name = config.pop("class", None)
    if name not in tuple(_CLASSES):
        _fail(caller, path, f"name one of {', '.join(_CLASSES)}", repr(name)[:100])
    module, parameters = _CLASSES[name]
    cls: Any = getattr(import_module(module, __package__), name)
    if set(config) != set(parameters):
        said = ", ".join(sorted(config)) or "nothing"
        _fail(caller, path, f"say {', '.join(parameters) or 'nothing'} of its {name}", said)
    try:
        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten, and must not show elsewhere
            network: nn.Module = cls(**config)
    except (TypeError, ValueError, RuntimeError) as error:  # the last for numbers that no memory holds
        raise ValueError(f"{caller}: expected {path} to describe a {name}, got: {error}") from error
    fill(network, {key: torch.from_numpy(value) for key, value in arrays.items()}, f"{caller}: {path}")
    return network.eval()


def load_network(path: str | os.PathLike[str], expected: type[Network]) -> Network:
    """Reads a network that `save_network` wrote.

    Args:
        path: the file.
        expected: its class, or a base class such as `torch.nn.Module` to take what the file holds.

    Returns:
        The network on the CPU, in float32 and evaluation mode. Random numbers drawn later do not change by it.

    Raises:
        ValueError: a damaged file, one of another format or class, or weights that do not fit the class.
        OSError: the file cannot be read.
    """
    caller = "load_network()"
    arrays, metadata = read_tensors(path, caller)
    config = _read_class(path, metadata, caller)
    module, _ = _CLASSES[config["class"]]
    cls: Any = getattr(import_module(module, __package__), config["class"])
    if not issubclass(cls, expected):
        _fail(caller, path, f"hold a {expected.__name__}", f"a {config['class']}")
    network: Network = make_network(config, arrays, path, caller)  # type: ignore[assignment]
    return network


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts of a network's file: `format`, `version`, `network` and what was added when it was saved.

    Raises:
        ValueError: a damaged file, or one of another format.
    """
    _, metadata = read_tensors(path, "read_metadata()")
    _read_class(path, metadata, "read_metadata()")
    return metadata


def read_state_dict(path: str | os.PathLike[str], caller: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a file of `torch.save`, which runs nothing (`weights_only=True`).

    A state dict inside a dict under the key "state_dict" or "model" is taken out, and the prefix "module." of
    DataParallel is taken off.

    Raises:
        ValueError: a damaged file, or one that holds other things than tensors.
        OSError: the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{caller}: expected {path} to be a complete safetensors file, got: {error}") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    # Damage shows as nearly any exception, a program in the pickle as UnpicklingError.
    except Exception as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a truncated archive raises
            raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{caller}: expected {path} to be a complete file of plain tensors, got: {text}") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        got = f"a {type(found).__name__}" + (f" of {len(found)} entries" if isinstance(found, Mapping) else "")
        raise ValueError(f"{caller}: expected {path} to hold a state dict, names and tensors, got {got}")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    caller: str,
    skip: tuple[str, ...] = (),
    optional: str = "\0",
) -> None:
    """Copies a state dict into a network: every key of it, of the same shape and kind, and no other.

    Args:
        network: what is filled, its dtypes kept.
        state: names and tensors.
        caller: begins the messages.
        skip: prefixes of keys that are left as they are, and may be missing.
        optional: keys that end so may be missing.

    Raises:
        ValueError: the message names the keys that are missing, unexpected or of another shape. Nothing is copied.
    """
    own = {key: value for key, value in network.state_dict().items() if not key.startswith(skip or "\0")}
    given = {key: value for key, value in state.items() if not key.startswith(skip or "\0")}
    problems = [
        (f"{len(keys)} {what}: " + ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else ""))
        for what, keys in (
            ("missing", [key for key in own if key not in given and not key.endswith(optional)]),
            ("unexpected", [key for key in given if key not in own]),
        )
        if keys
    ]
    for key, value in given.items():
        if key in own and value.shape != own[key].shape:
            problems.append(f"{key} is {list(value.shape)} instead of {list(own[key].shape)}")
        elif key in own and value.is_floating_point() != own[key].is_floating_point():
            problems.append(f"{key} is {value.dtype} instead of {own[key].dtype}")
    if problems:
        extra = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise ValueError(
            f"{caller}: expected the weights of {type(network).__name__}, got {'; '.join(problems[:_NAMED])}{extra}"
        )
    with torch.no_grad():
        for key, value in given.items():
            own[key].copy_(value)


def _read_class(path: str | os.PathLike[str], metadata: Mapping[str, str], caller: str) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        _fail(caller, path, f"say format {FORMAT!r} in its metadata", repr(metadata.get("format")))
    if metadata.get("version") != VERSION:
        _fail(caller, path, f"have format version {VERSION!r}", repr(metadata.get("version")))
    try:
        config = json.loads(metadata.get("network", ""))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or config.get("class") not in tuple(_CLASSES):
        _fail(caller, path, f"name one of {', '.join(_CLASSES)}", repr(metadata.get("network", ""))[:100])
    return config


def _fail(caller: str, path: str | os.PathLike[str], what: str, got: str) -> None:
    raise ValueError(f"{caller}: expected {path} to {what}, got {got}")
