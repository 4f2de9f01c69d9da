"""Segmentation networks: one file per paper, accessed by name.

`build(name, **params)` returns a network that maps images (B, 3, H, W), RGB in [0, 1], to a tuple of logits
(B, 1, H, W), the prediction first and side outputs after it, the same tuple in training and in evaluation. All are
trained on the mask with equal weight, unless `supervision(network)` says otherwise.
"""

from orchestrator.models import attention_unet as attention_unet
from orchestrator.models import colonsegnet as colonsegnet
from orchestrator.models import deeplabv3p as deeplabv3p
from orchestrator.models import dino_decoder as dino_decoder
from orchestrator.models import emcad as emcad
from orchestrator.models import encoder_decoder as encoder_decoder
from orchestrator.models import gmsrf_net as gmsrf_net
from orchestrator.models import hrnet as hrnet
from orchestrator.models import msrf_net as msrf_net
from orchestrator.models import nnunet_resenc as nnunet_resenc
from orchestrator.models import polyp_pvt as polyp_pvt
from orchestrator.models import pranet as pranet
from orchestrator.models import resunet as resunet
from orchestrator.models import resunet_pp as resunet_pp
from orchestrator.models import sam2_unet as sam2_unet
from orchestrator.models import uacanet as uacanet
from orchestrator.models import unet as unet
from orchestrator.models import unet_mediaeval as unet_mediaeval
from orchestrator.models import unet_pp as unet_pp
from orchestrator.models.encoders import encoder_parts, mark_encoder
from orchestrator.models.published_weights import load_published
from orchestrator.models.registry import (
    build,
    build_without_values,
    names,
    own_network,
    paper,
    params,
    published,
    published_in,
    register,
    smallest_batch,
    stride,
    summary,
)
from orchestrator.models.supervision import Supervision, supervision

__all__ = [
    "Supervision",
    "build",
    "build_without_values",
    "encoder_parts",
    "load_published",
    "mark_encoder",
    "names",
    "own_network",
    "paper",
    "params",
    "published",
    "published_in",
    "register",
    "smallest_batch",
    "stride",
    "summary",
    "supervision",
]
