from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from orchestrator import models
from orchestrator.models.frozen import Adapted


def small(**params: Any) -> nn.Module:
    defaults = {"encoder": "test_hieradet", "width": 8, "pretrained": False}
    return models.build("sam2_unet", **{**defaults, **params})


def test_an_adapter_is_trained_before_every_block_and_the_blocks_are_not():
    network = small(adapter_width=4)
    blocks = network.encoder.body.body.model.blocks
    assert all(isinstance(block, Adapted) for block in blocks)
    assert [block.adapter[0].out_features for block in blocks] == [4] * 5
    trained = [name for name, p in network.encoder.named_parameters() if p.requires_grad]
    assert len(trained) == 4 * len(blocks)
    assert all(".adapter." in name for name in trained)


def test_all_three_maps_are_trained_with_equal_weight():
    network = small()
    assert len(network(torch.rand(2, 3, 64, 64))) == 3
    assert models.supervision(network) == ()


@pytest.mark.parametrize("names", ["timm's", "SAM2's"])
def test_a_local_file_of_weights_is_read_in_both_names(tmp_path, names):
    import timm

    state = timm.create_model("test_hieradet").state_dict()
    theirs = {key: key.replace("mlp.fc1", "mlp.layers.0").replace("mlp.fc2", "mlp.layers.1") for key in state}
    file = {"model": {f"image_encoder.trunk.{theirs[key]}": value for key, value in state.items()}}
    torch.save(state if names == "timm's" else file, tmp_path / "hiera.pt")
    network = small(weights=str(tmp_path / "hiera.pt"))
    assert torch.equal(
        network.encoder.body.body.model.blocks[2].block.mlp.fc2.weight, state["blocks.2.mlp.fc2.weight"]
    )


@pytest.mark.parametrize("encoder", ["huge", "pvt_v2_b0", "resnet18"])
def test_an_encoder_that_is_not_of_sam2_is_refused_with_those_that_are(encoder):
    with pytest.raises(
        ValueError, match=r"encoder must be tiny or small or base_plus or large, or a HieraDet"
    ):
        small(encoder=encoder)
