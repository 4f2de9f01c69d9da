"""Segmentation networks: one file per paper, found by name.

`build(name, **params)` returns a network that maps images (B, 3, H, W), RGB in [0, 1], to a tuple of logits
(B, 1, H, W), the prediction first and side outputs after it, the same tuple in training and in evaluation.
"""

from models import colonsegnet as colonsegnet
from models import gmsrf_net as gmsrf_net
from models import pranet as pranet
from models import resunet as resunet
from models import resunet_pp as resunet_pp
from models import uacanet as uacanet
from models import unet as unet
from models.published_weights import load_published
from models.registry import build, names, paper, params, published, register, stride, summary

__all__ = ["build", "load_published", "names", "paper", "params", "published", "register", "stride", "summary"]
