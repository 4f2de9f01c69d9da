"""Encoders of timm with decoders of segmentation_models_pytorch, and the encoders that will not do."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file

from orchestrator import models
from orchestrator.models.cost import on_meta, size
from orchestrator.models.encoder_decoder import Decoder
from orchestrator.models.pyramids import form_of

DECODERS = get_args(Decoder)
LIBRARY = {
    "unet": smp.Unet,
    "fpn": smp.FPN,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "manet": smp.MAnet,
    "deeplabv3plus": smp.DeepLabV3Plus,
}


def offline(**params: Any) -> torch.nn.Module:
    return models.build("encoder_decoder", **{"pretrained": False, "width": 64, **params})


@pytest.mark.parametrize("decoder", DECODERS)
def test_with_its_own_width_each_is_the_librarys_network_on_normalized_pixels(decoder):
    atrous = {"decoder_atrous_rates": (6, 12, 18)} if decoder == "deeplabv3plus" else {}
    theirs = LIBRARY[decoder]("tu-test_resnet", encoder_weights=None, **atrous).eval()
    ours = offline(encoder="test_resnet", decoder=decoder, width=256).eval()
    ours.load_state_dict({_renamed(key, decoder): value for key, value in theirs.state_dict().items()})
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours(image)[0], theirs((image - 0.5) / 0.5))


def _renamed(key: str, decoder: str) -> str:
    inner = "decoder.decoder." if decoder == "deeplabv3plus" else "decoder."
    parts = {"encoder.model.": "encoder.body.", "segmentation_head.": "head.", "decoder.": inner}
    (theirs,) = [one for one in parts if key.startswith(one)]
    return parts[theirs] + key.removeprefix(theirs)


@pytest.mark.parametrize(
    ("encoder", "decoder", "learnable"),
    [
        ("resnet34", "unet", 24_436_369),
        ("resnet34", "fpn", 23_155_393),
        ("resnet34", "manet", 31_783_633),
        ("resnet34", "deeplabv3plus", 22_437_457),
    ],
)
def test_sizes_are_those_of_the_library(encoder, decoder, learnable):
    assert size(on_meta("encoder_decoder", encoder=encoder, decoder=decoder)).learnable == learnable


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [
        ("mambaout_femto", (0, 48, 96, 192, 288)),
        ("swinv2_tiny_window8_256", (0, 96, 192, 384, 768)),
        ("vgg11", (128, 256, 512, 512, 512)),
    ],
)
def test_maps_with_channels_last_without_a_half_or_at_full_size_become_a_pyramid(encoder, channels):
    assert form_of(encoder).channels == channels


def test_deeplab_dilates_an_encoder_that_can_be_dilated_and_upsamples_the_last_map_of_others():
    image = torch.empty(2, 3, 64, 64, device="meta")
    with torch.device("meta"):
        dilated, other = (
            offline(encoder=name, decoder="deeplabv3plus") for name in ("test_resnet", "mambaout_femto")
        )
    assert [dilated.encoder(image)[-1].shape[-1], other.encoder(image)[-1].shape[-1]] == [4, 2]
    assert other(image)[0].shape == (2, 1, 64, 64)


@pytest.mark.slow
def test_what_no_map_that_is_read_depends_on_is_not_trained():
    with torch.device("meta"):
        network = offline(encoder="hrnet_w18_small_v2", decoder="deeplabv3plus")
    network(torch.empty(2, 3, 64, 64, device="meta"))[0].sum().backward()
    idle = [key for key, one in network.named_parameters() if one.grad is None]
    assert idle and idle == [key for key, one in network.named_parameters() if not one.requires_grad]


@pytest.mark.parametrize(("encoder", "mean"), [("tf_efficientnet_lite0", 0.5), ("convnext_atto", 0.485)])
def test_pixels_are_normalized_as_the_encoder_was_trained(encoder, mean):
    assert offline(encoder=encoder).normalize.mean[0, 0].item() == pytest.approx(mean)


def test_building_draws_no_random_numbers_but_those_of_the_weights():
    drawn = []
    for _ in range(2):  # the first looks at the encoder's form, the second knows it
        torch.manual_seed(0)
        offline(encoder="test_convnext")
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("encoder", ["test_resnet", "sam2_hiera_tiny"])
def test_a_file_in_timms_names_is_read(tmp_path, encoder):
    classifier = timm.create_model(encoder)
    save_file(classifier.state_dict(), tmp_path / "encoder.safetensors")
    body = offline(encoder=encoder, weights=str(tmp_path / "encoder.safetensors")).encoder.body
    first, value = next(iter(body.state_dict().items()))
    assert torch.equal(value, classifier.state_dict()[first.removeprefix("model.")])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder": "resnt50"}, "no encoder named 'resnt50'; did you mean resnet50"),
        ({"encoder": "resnet50.a1"}, "no weights 'a1' of 'resnet50'; expected one of .*a1_in1k"),
        ({"encoder": "vit_tiny_patch16_224"}, r"'vit_tiny_patch16_224' has maps at 1/16; an encoder needs"),
        ({"encoder": "vit_small_patch14_dinov2"}, "has maps at 1/14; an encoder needs"),
        ({"encoder": "levit_128s"}, "has maps at 1/16, 1/32, 1/64; .*as resnet34"),
        ({"encoder": "hiera_tiny_224"}, "is made for images of 224 x 224 pixels; .*sam2_hiera_tiny"),
        ({"encoder": "maxvit_tiny_tf_224"}, "is made for images of 224 x 224 pixels"),
        ({"encoder": "inception_v3"}, "'inception_v3' has maps of other sizes"),
        ({"encoder": "resnet18", "decoder": "unet++"}, "decoder must be one of unet, fpn.*, got 'unet"),
        ({"encoder": "resnet18", "width": 96}, "width must be a positive multiple of 64, got 96"),
        ({"encoder": "mambaout_kobe.x", "pretrained": True}, "no weights 'x' of 'mambaout_kobe'"),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_would_work(params, message):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        offline(**params)
