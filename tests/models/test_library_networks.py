"""HRNet and DeepLabv3+, whose bodies come from timm and segmentation_models_pytorch."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from orchestrator import models

DEEPLABS = ("deeplabv3p_mobilenet", "deeplabv3p_xception")


def offline(name: str, **params: Any) -> torch.nn.Module:
    return models.build(name, pretrained=False, **params)


def test_hrnet_keeps_the_widths_of_its_branches_and_leaves_the_classifier_out():
    network = offline("hrnet_w18_small_v2")
    assert network.body.channels == [18, 36, 72, 144]
    assert not any("incre" in name or "classifier" in name for name in network.state_dict())


def test_hrnet_reads_the_file_of_a_classifier(tmp_path):
    classifier = timm.create_model("hrnet_w18_small")
    save_file(classifier.state_dict(), tmp_path / "hrnet.safetensors")
    network = models.build(
        "hrnet_w48", encoder="hrnet_w18_small", weights=str(tmp_path / "hrnet.safetensors")
    )
    branch = network.body.body.stage4[0].branches[3][0].conv1.weight
    assert torch.equal(branch, classifier.stage4[0].branches[3][0].conv1.weight)


def test_deeplab_is_the_librarys_network_on_normalized_pixels():
    torch.manual_seed(0)
    ours = offline("deeplabv3p_mobilenet").eval()
    theirs = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, decoder_atrous_rates=(6, 12, 18)).eval()
    theirs.load_state_dict(ours.network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        assert torch.equal(ours(image)[0], theirs((image - mean) / std))


def test_deeplab_ends_its_encoder_at_a_sixteenth():
    network = offline("deeplabv3p_xception", encoder="test_resnet", width=16)
    assert [x.shape[-1] for x in network.network.encoder(torch.rand(1, 3, 64, 64))] == [64, 32, 16, 8, 4, 4]


def test_deeplab_normalizes_pixels_as_its_encoder_was_trained():
    with torch.device("meta"):
        network = offline("deeplabv3p_xception")
    assert network.network.encoder.model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    small = offline("deeplabv3p_xception", encoder="test_resnet", width=16)
    assert small.normalize.mean.flatten().tolist() == pytest.approx(
        small.network.encoder.model.pretrained_cfg["mean"]
    )


def test_deeplab_reads_torchvisions_file_of_a_classifier(tmp_path):
    encoder = smp.encoders.get_encoder("mobilenet_v2", weights=None)
    state = {**encoder.state_dict(), "classifier.1.weight": torch.zeros(1000, 1280)}
    torch.save(state, tmp_path / "mobilenet.pth")
    network = models.build("deeplabv3p_mobilenet", width=16, weights=str(tmp_path / "mobilenet.pth"))
    key = "features.18.0.weight"
    assert torch.equal(network.network.encoder.state_dict()[key], state[key])


@pytest.mark.parametrize("name", [*DEEPLABS, "hrnet_w18_small_v2"])
def test_weights_of_another_encoder_are_refused(tmp_path, name):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"lacks \d+ of \d+ tensors"):
        models.build(name, weights=str(tmp_path / "other.pth"))


def test_an_encoder_that_is_no_hrnet_is_refused():
    with pytest.raises(ValueError, match="'resnet50' is not an HRNet; use hrnet_w18_small_v2"):
        offline("hrnet_w48", encoder="resnet50")


@pytest.mark.slow
def test_without_a_connection_pretrained_names_the_parameters_that_help(tmp_path):
    code = (
        "from orchestrator import models\n"
        "for name in ('hrnet_w18_small_v2', 'deeplabv3p_mobilenet', 'deeplabv3p_xception'):\n"
        "    try: models.build(name)\n"
        "    except ConnectionError as error: print('refused', error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("refused the ImageNet weights of") == 3
    assert done.stdout.count("pretrained = false") == done.stdout.count("weights = PATH") == 3
