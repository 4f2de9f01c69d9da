"""Further formats of an exported network: ONNX from image to mask, PyTorch, fewer bits, Triton."""
