"""A protocol of two small networks, for drawn polyps under the names of Kvasir-SEG and CVC-ClinicDB."""

from __future__ import annotations

TINY = """
title = "Tiny"
citation = "Nobody, 2026"
not_stated = ["nothing is known of it"]

[recipe]
image_size = 64
epochs     = 3
batch_size = 8

[rows]
"narrow"      = { space = "smoke", params = { base_channels = 4 } }
"wider"       = { space = "smoke", imagenet = true }
"wider, rule" = { space = "smoke", rule = true, reads = "mask" }

[scales.smoke]
image_size = 32
train_images = 12
val_images = 6
test_images = 12

[tables.I]
caption = "trained on drawn polyps"
train   = "Kvasir-SEG"
tests   = [
    { name = "Kvasir-SEG", part = "test", images = 100 },
    { name = "CVC-ClinicDB", images = 612 },
    { name = "CVC-300" },
]
columns = [
    { name = "Dice", score = "dice_gmsrf" },
    { name = "mIoU", score = "iou_keras_truncated" },
    { name = "Params", measure = "parameters" },
    { name = "FPS", measure = "fps" },
]
[tables.I.published."narrow"]
"Kvasir-SEG" = [0.9, 0.8, 1000, 50]
"CVC-ClinicDB" = [0.8, 0.7, 1000, 50]
[tables.I.published."wider"]
"Kvasir-SEG" = [0.7, 0.6, 2000, 40]
"CVC-ClinicDB" = [0.79, 0.6, 2000, 40]
"""
