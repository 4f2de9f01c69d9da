"""Which of timm's encoders take a decoder, and which are refused: one or more of every family; takes minutes."""

from __future__ import annotations

import pytest
import torch

from orchestrator import models

pytestmark = pytest.mark.slow

NAMES = """
    resnet18 res2net50d resnest14d seresnet18 skresnet18 regnety_002 densenet121 vgg11 vgg11_bn
    efficientnet_b0 tf_efficientnet_lite0 tf_efficientnet_lite1 tf_efficientnet_lite2 tf_efficientnetv2_b0
    mobilenetv3_small_100 mobilenetv3_large_100 mobilenetv4_conv_small mobilenetv4_hybrid_medium
    mnasnet_small lcnet_050 ghostnet_100 convnext_atto convnextv2_atto mambaout_femto
    swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224
    sam2_hiera_tiny pvt_v2_b0 mvitv2_tiny twins_svt_small davit_tiny focalnet_tiny_srf hrnet_w18_small_v2
    repvit_m0_9 fastvit_t8 edgenext_xx_small inception_next_atto caformer_s18 poolformerv2_s12
    efficientvit_b0 mobileone_s0 nextvit_small tiny_vit_5m_224 mobilevit_xxs starnet_s050 rdnet_tiny
    hgnetv2_b0 dla34 tresnet_m xception41 dpn68 vovnet39a cspdarknet53 cspresnet50 selecsls42b eca_nfnet_l0
    lambda_resnet26t fasternet_t0 swiftformer_xs
"""
WORK = tuple(NAMES.split())
PAIRS_ALONE = {"resnest14d", "skresnet18"}  # BatchNorm after global pooling: one image does not train them
MADE_FOR_ONE_SIZE = {
    "hiera_tiny_224",
    "hiera_small_abswin_256",
    "maxvit_tiny_tf_224",
    "maxvit_rmlp_pico_rw_256",
    "coatnet_0_rw_224",
    "coat_lite_tiny",
    "efficientformerv2_s0",
    "gcvit_xxtiny",
    "botnet26t_256",
}
OF_OTHER_SIZES = {
    "mobilevitv2_050",
    "inception_v3",
    "pnasnet5large",
}  # unpadded convolutions, or maps that are rounded up
NO_PYRAMID = {
    "efficientvit_m0": "1/16, 1/32, 1/64",
    "levit_128s": "1/16, 1/32, 1/64",
    "vit_tiny_patch16_224": "1/16",
    "vit_small_patch14_dinov2": "1/14",
    "shvit_s1": "1/16, 1/32, 1/64",
    "crossvit_tiny_240": "1/12, 1/17",
    "pit_ti_224": "1/8, 1/16, 1/32",
    "visformer_tiny": "1/8, 1/16, 1/32",
    "nest_tiny": "1/4, 1/8, 1/16",
    "convmixer_768_32": "1/7",
    "sequencer2d_s": "1/7, 1/14",
    "xcit_nano_12_p16_224": "1/16",
    "mixer_s16_224": "1/16",
    "csatv2": "1/8, 1/16, 1/32, 1/64",
}


@pytest.mark.parametrize("decoder", ["unet", "segformer"])
@pytest.mark.parametrize("encoder", WORK)
def test_an_encoder_trains_with_a_decoder_and_takes_images_of_any_multiple_of_32(encoder, decoder):
    network = models.build("encoder_decoder", encoder=encoder, decoder=decoder, width=64, pretrained=False)
    for num_images, height, width in ((2, 64, 96), (1, 64, 64)):
        if num_images == 1 and encoder in PAIRS_ALONE:
            continue
        network.zero_grad()
        logits = network(torch.rand(num_images, 3, height, width))[0]
        assert logits.shape == (num_images, 1, height, width) and logits.isfinite().all()
        logits.square().mean().backward()
        gradients = [one.grad for one in network.parameters() if one.requires_grad]
        assert all(one is not None and one.isfinite().all() for one in gradients)
    assert network.eval()(torch.rand(1, 3, 32, 32))[0].shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("encoder", "why"),
    [
        *((name, "is made for images of [0-9]+ x [0-9]+ pixels") for name in sorted(MADE_FOR_ONE_SIZE)),
        *((name, "has maps of other sizes, for 96 x 160 pixels") for name in sorted(OF_OTHER_SIZES)),
        *((name, f"has maps at {levels}") for name, levels in NO_PYRAMID.items()),
    ],
)
def test_an_encoder_that_will_not_do_is_refused_with_why_and_with_some_that_will(encoder, why):
    with pytest.raises(ValueError, match=f"encoder '{encoder}' {why}; an encoder needs maps at .*resnet34"):
        models.build("encoder_decoder", encoder=encoder, pretrained=False)
