"""Whether the files of a bundle are what they should be, however they came: nothing in here trusts them.

A bundle is passed on by mail and by web. So its config names no file, its files are regular ones of bounded size, its
graph is one from images to logits of the size that the config says, without code of others and without other files.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx.shape_inference import InferenceError, infer_shapes
from safetensors import SafetensorError, safe_open

from orchestrator.common.cpus import usable_cpus
from orchestrator.common.errors import BadBundle
from orchestrator.common.user_documents import MB, kind_of, shown

LARGEST = {
    "model.safetensors": 2_100 * MB,
    "model.onnx": 2_048 * MB,
    "config.json": 64 * MB,
    "model_card.md": 16 * MB,
}
OUR_DOMAINS = ("", "ai.onnx")  # of operators that every runtime has
MOST_ELEMENTS = 2**31  # of one tensor in the graph, for one image
SMALL = 1024  # elements of an initializer that may say a shape


def require_folder(folder: Path) -> None:
    """Raises `BadBundle` where there is no folder."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise BadBundle(
            str(folder),
            f"expected the folder of an exported model, as `best --export` makes it, found {found}",
        )


def file_problem(folder: Path, name: str) -> str | None:
    """Problem of a file of a bundle, found without opening it; None if it has none."""
    path = folder / name
    try:
        found = path.stat()
    except FileNotFoundError:
        return "is a symbolic link to nothing" if path.is_symlink() else "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"expected a file, found {kind_of(found.st_mode)}"
    if folder.resolve() not in path.resolve().parents:
        return "is a symbolic link that leads out of the folder; put the file itself there"
    if found.st_size > LARGEST[name]:
        return f"expected at most {LARGEST[name] / MB:,.0f} MB, found {found.st_size / MB:,.0f} MB"
    return None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_problems(path: Path, members: int) -> Iterator[str]:
    """Problems of a file of weights: another format, damage, or weights of another number of networks."""
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
    except (SafetensorError, OSError, ValueError) as error:
        yield f"{path.name}: expected weights in the safetensors format, found something else: {shown(str(error))}"
        return
    found = {name.partition(".")[0] for name in names}
    if members > 1 and found != {str(number) for number in range(members)}:
        yield f"{path.name}: expected weights of {members} networks, 0. to {members - 1}., found {_some(found)}"


def graph_problems(data: bytes, image_size: int) -> list[str]:
    """Mistakes in the bytes of model.onnx that ONNX Runtime does not find; no node is executed."""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return ["expected an ONNX model, found other bytes"]
    if not model.graph.node:
        return ["expected an ONNX model, found one without a graph"]
    problems = [
        *_end_problems("input", "image", _inputs(model.graph), [3, image_size, image_size]),
        *_end_problems("output", "logits", model.graph.output, [1, image_size, image_size]),
        *_foreign(model),
    ]
    return problems or list(_too_large(model))


def open_session(data: bytes) -> onnxruntime.InferenceSession:
    """ONNX Runtime session from bytes, so that it opens no other file. ValueError: the runtime refuses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.log_severity_level = 4  # what it has against a graph is in its exception
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no class in common
        raise ValueError(f"ONNX Runtime does not take it: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """First line of an exception's message, shortened."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    known = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in known]


def _end_problems(
    what: str, name: str, values: Iterable[onnx.ValueInfoProto], shape: list[int]
) -> Iterator[str]:
    named = [value.name for value in values]
    if named != [name]:
        yield f"expected one {what}, {name}, found {_some(named) or 'none'}"
        return
    tensor = next(iter(values)).type.tensor_type
    found = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        yield f"{what} {name}: expected float32, found type {tensor.elem_type}"
    if found[:1] != [None] or found[1:] != shape:
        sizes = ", ".join("?" if size is None else str(size) for size in found)
        yield f"{what} {name}: expected (B, {', '.join(map(str, shape))}) as config.json says, found ({sizes})"


def _foreign(model: onnx.ModelProto) -> Iterator[str]:
    """Problems of a graph: foreign operators, nested graphs, which may never end, tensors in other files."""
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    custom = {
        f"{node.domain}.{node.op_type}"
        for node in nodes
        if node.domain not in OUR_DOMAINS and (node.domain, node.op_type) not in own
    }
    if custom:
        yield f"expected operators of ONNX alone, found {_some(custom)}"
    if branching := {
        node.op_type for node in nodes if any(a.HasField("g") or a.graphs for a in node.attribute)
    }:
        yield f"expected no loops and branches, found {_some(branching)}"
    constants = [a.t for node in nodes for a in node.attribute if a.HasField("t")]
    tensors = [*model.graph.initializer, *constants]
    if (
        any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors)
        or model.graph.sparse_initializer
    ):
        yield "expected all weights in the file itself, found some in another one, or sparse ones"


def _too_large(model: onnx.ModelProto) -> Iterator[str]:
    """Tensors beyond what any network needs, by their shapes alone: weights are left out of what is looked at."""
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > SMALL:
            tensor.ClearField("raw_data")
    try:
        inferred = infer_shapes(model, data_prop=True).graph
    except (InferenceError, ValueError, RuntimeError) as error:
        yield f"its shapes contradict each other: {first_line(error)}"
        return
    for value in (*inferred.value_info, *inferred.output):
        dims = [max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim]
        if math.prod(dims) > MOST_ELEMENTS:
            yield f"{shown(value.name)}: expected a tensor of at most {MOST_ELEMENTS:,} elements, found {dims}"
            return


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return ", ".join(shown(name) for name in listed[:4]) + more
