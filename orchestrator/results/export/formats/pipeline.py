"""pipeline.onnx: an image of any size in, the mask at that size out, with all steps between.

image        uint8 (height, width, 3), RGB, of any size
probability  float32 (height, width) in [0, 1], that a pixel is polyp
mask         uint8 (height, width), 1 on the polyp, else 0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper

from orchestrator.results.export.formats.names import why_no_pipeline
from orchestrator.scoring.postprocess import PostProcess

OPSETS = range(18, 26)  # in which the operators of graph_parts.py mean the same
METADATA = {
    "input": "image: uint8 (height, width, 3), any size; pixels upright",
    "color_order": "RGB",
    "input_range": "0 to 255",
    "output": "probability: float32 (height, width), 0 to 1; mask: uint8 (height, width), 1 on the polyp, else 0",
    "use": "research only; not a medical device",
}


def pipeline(
    network: onnx.ModelProto, size: int, scale: float, masks: PostProcess, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """ONNX model from image to mask, around a network from (B, 3, size, size) in [0, 1] to logits.

    `metadata` is added to the `metadata_props` of all pipelines. ValueError for mask rules that ONNX has no
    operators for, and for a network of an unsupported opset.
    """
    from orchestrator.results.export.formats.graph_parts import network_input

    if reason := why_no_pipeline(masks):
        raise ValueError(reason)
    opset = next(one.version for one in network.opset_import if one.domain in ("", "ai.onnx"))
    if opset not in OPSETS:
        raise ValueError(f"expected a network of opset {OPSETS[0]} to {OPSETS[-1]}, found {opset}")
    before = _part(network_input, side=np.int64(size), scale=np.float32(scale))
    after = _after(masks)
    own = onnx.ModelProto()
    own.CopyFrom(network)
    graph = helper.make_graph([], "pipeline", [_image()], [*_outputs()])
    ends = {"image": "image", "probability": "probability", "mask": "mask"}
    _append(graph, before, ends | {"pixels": "pixels"})
    _append(graph, own.graph, {"image": "pixels", "logits": "logits"}, "network")
    _append(graph, after, ends | {"logits": "logits"})
    joined = helper.make_model(
        graph, opset_imports=own.opset_import, functions=own.functions, ir_version=own.ir_version
    )
    helper.set_model_props(joined, METADATA | dict(metadata))
    onnx.checker.check_model(joined)
    return joined


def _after(masks: PostProcess) -> onnx.GraphProto:
    """Graph from logits to the mask; white pixels are counted only if a rule needs them, as it takes time."""
    from orchestrator.results.export.formats.graph_parts import large_mask_of, mask_of

    threshold = np.float32(masks.threshold)
    if masks.white_level is None and not masks.reference_area:
        return _part(mask_of, threshold=threshold)
    white = masks.threshold if masks.white_level is None else masks.white_level
    area = np.float64(masks.reference_area)
    return _part(large_mask_of, threshold=threshold, white_level=np.float32(white), reference_area=area)


def _part(function: Any, **values: np.generic) -> onnx.GraphProto:
    """Graph of an ONNX Script function, with constants in place of the inputs named in `values`."""
    graph = inliner.inline_local_functions(function.to_model_proto()).graph
    for node in graph.node:
        if node.op_type == "CastLike":  # of whole numbers to whole numbers; runtimes warn of it
            node.op_type = "Identity"
            del node.input[1:]
    kept = [one for one in graph.input if one.name not in values]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )
    return graph


def _append(
    graph: onnx.GraphProto, part: onnx.GraphProto, ends: Mapping[str, str], prefix: str | None = None
) -> None:
    """Add nodes and weights of a part; its names get a prefix, except for `ends`, which are called as `ends` says."""
    prefix = prefix or part.name

    def named(name: str) -> str:
        return name and ends.get(name, f"{prefix}/{name}")

    for node in part.node:
        node.name = f"{prefix}/{node.name}"
        node.input[:] = map(named, node.input)
        node.output[:] = map(named, node.output)
    for tensor in part.initializer:
        tensor.name = named(tensor.name)
    graph.node.extend(part.node)
    graph.initializer.extend(part.initializer)


def _image() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["height", "width", 3])


def _outputs() -> tuple[onnx.ValueInfoProto, ...]:
    kinds = {"probability": onnx.TensorProto.FLOAT, "mask": onnx.TensorProto.UINT8}
    return tuple(
        helper.make_tensor_value_info(name, kind, ["height", "width"]) for name, kind in kinds.items()
    )
