"""triton/: a model repository of NVIDIA's Triton Inference Server; ModelConfig of its model_config.proto.

tritonserver --model-repository=EXPORT/triton serves it under the name of the network.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx

TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.UINT8: "TYPE_UINT8"}
MAX_BATCH = 8  # of model.onnx; a pipeline takes one image, for each has its size


def write_repository(graph: Path, name: str, folder: Path) -> None:
    """Write folder/name/config.pbtxt and folder/name/1/model.onnx, a copy of this graph."""
    version = folder / name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(graph, version / "model.onnx")
    config = model_config(onnx.load(graph, load_external_data=False).graph, name)
    (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")


def model_config(graph: onnx.GraphProto, name: str) -> str:
    """config.pbtxt of a graph: text of the protocol buffer ModelConfig."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    is_batched = len(inputs[0].type.tensor_type.shape.dim) == 4
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH if is_batched else 0}",
        *(_tensor("input", one, is_batched) for one in inputs),
        *(_tensor("output", one, is_batched) for one in graph.output),
        *(["dynamic_batching { }"] if is_batched else []),
    ]
    return "\n".join(lines) + "\n"


def _tensor(what: str, value: onnx.ValueInfoProto, is_batched: bool) -> str:
    """Config text of one input or output; a batch dimension is left out, as Triton adds its own."""
    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim][is_batched:]
    sides = ", ".join(map(str, dims))
    return f"{what} [ {{ name: {json.dumps(value.name)} data_type: {TYPES[tensor.elem_type]} dims: [ {sides} ] }} ]"
