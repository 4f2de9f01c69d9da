"""The forms of an exported network that other programs run: from image to mask, PyTorch's, of fewer bits, Triton's."""
