"""Segmentation networks: one file per paper, found by name.

`build(name, **params)` returns a network that maps images (B, 3, H, W), RGB in [0, 1], to a tuple of logits
(B, 1, H, W), the prediction first and side outputs after it, the same tuple in training and in evaluation.
"""

from models import gmsrf_net as gmsrf_net
from models import resunet_pp as resunet_pp
from models import unet as unet
from models.registry import build, names, paper, params, published, register, stride, summary

__all__ = ["build", "names", "paper", "params", "published", "register", "stride", "summary"]
