"""The mask of one image, by this folder's files alone; the code in every model card, to be run in its folder."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import tifffile
from PIL import Image, ImageOps


def read_rgb(path: str) -> np.ndarray:
    """uint8 (H, W, 3), upright, as the network was trained; OpenCV reads some TIFF and CMYK files otherwise."""
    is_tiff = Path(path).read_bytes()[:4] in (b"II*\0", b"MM\0*")
    with open_tiff(path) if is_tiff else Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{path}: expected 8 bits a channel, found mode {image.mode}")
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def open_tiff(path: str) -> Image.Image:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels
    image = Image.fromarray(~pixels if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else pixels)
    image.getexif()[0x0112] = page.tags.valueof("Orientation", 1)
    return image


config = json.loads(Path("config.json").read_text(encoding="utf-8"))
size = config["image_size"]
image = read_rgb("image.png")
height, width = image.shape[:2]
shrinks = min(height, width) >= size
small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
batch = np.float32(small.transpose(2, 0, 1)[None]) / np.float32(config["normalization"]["scale"])
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(["logits"], {"image": batch})
probability = cv2.resize(1 / (1 + np.exp(-logits[0, 0].clip(-80, 80))), (width, height))
mask = probability >= config["threshold"]  # bool (height, width), true on the polyp
