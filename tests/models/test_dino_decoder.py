from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from orchestrator import models
from orchestrator.models.dino_decoder import Tokens


def small(**params: Any) -> torch.nn.Module:
    return models.build("dino_decoder", **{"encoder": "test_vit", "width": 16, "pretrained": False, **params})


@pytest.mark.parametrize("patch", [14, 16])
def test_there_is_one_token_for_sixteen_pixels_whatever_the_patch(patch):
    from timm.models.vision_transformer import VisionTransformer

    body = VisionTransformer(
        patch_size=patch, embed_dim=8, depth=5, num_heads=1, num_classes=0, dynamic_img_size=True
    )
    maps = Tokens(body.eval())(torch.rand(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 8, 4, 6)] * 4


def test_blocks_behind_the_last_map_and_classifiers_are_left_out():
    tokens = small(adaptation="full").tokens
    assert tokens.taken == [0, 2, 3, 5]
    assert not any("head" in name for name in tokens.state_dict())


def test_an_untrained_change_of_low_rank_is_the_frozen_network():
    torch.manual_seed(0)
    frozen, adapted = small().eval(), small(adaptation="lora", lora_rank=2).eval()
    state = frozen.state_dict()
    renamed = {key: key.replace("parametrizations.weight.original", "weight") for key in adapted.state_dict()}
    adapted.load_state_dict(
        {key: state[name] for key, name in renamed.items() if name in state}, strict=False
    )
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(adapted(image), frozen(image))


def test_low_rank_changes_every_linear_layer_of_attention_and_no_other():
    names = [name for name, p in small(adaptation="lora").tokens.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 * 6  # up and down, of qkv and proj, in six blocks
    assert all(".attn." in name for name in names)


def test_a_local_file_of_weights_is_read(tmp_path):
    import timm

    vit = timm.create_model("test_vit", num_classes=10)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    network = small(adaptation="lora", weights=str(tmp_path / "vit.safetensors"))
    layer = network.tokens.body.body.blocks[1].attn.qkv
    assert torch.equal(layer.parametrizations.weight.original, vit.blocks[1].attn.qkv.weight)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"adaptation": "half"}, "adaptation must be one of frozen, lora, full, got 'half'"),
        ({"lora_rank": 0}, "lora_rank must be a positive integer, got 0"),
        ({"width": 15}, "width must be a positive multiple of 2, got 15"),
        (
            {"encoder": "swin_tiny_patch4_window7_224"},
            "is no plain vision transformer; vit_small_patch14_dinov2",
        ),
        ({"encoder": "vit_smal_patch14_dinov2"}, "did you mean vit_small_patch14_dinov2"),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(params, message):
    with pytest.raises(ValueError, match=message):
        small(**params)
