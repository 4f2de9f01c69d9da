"""Segmentation networks: one file per paper, found by name.

`build(name, **params)` returns a network that maps images (B, 3, H, W), RGB in [0, 1], to a tuple of logits
(B, 1, H, W), the prediction first and side outputs after it, the same tuple in training and in evaluation. All are
trained on the mask with equal weight, unless `supervision(network)` says otherwise.
"""

from models import attention_unet as attention_unet
from models import colonsegnet as colonsegnet
from models import deeplabv3p as deeplabv3p
from models import gmsrf_net as gmsrf_net
from models import hrnet as hrnet
from models import msrf_net as msrf_net
from models import pranet as pranet
from models import resunet as resunet
from models import resunet_pp as resunet_pp
from models import uacanet as uacanet
from models import unet as unet
from models import unet_mediaeval as unet_mediaeval
from models import unet_pp as unet_pp
from models.published_weights import load_published
from models.registry import build, names, paper, params, published, register, smallest_batch, stride, summary
from models.supervision import Supervision, supervision

__all__ = [
    "Supervision",
    "build",
    "load_published",
    "names",
    "paper",
    "params",
    "published",
    "register",
    "smallest_batch",
    "stride",
    "summary",
    "supervision",
]
