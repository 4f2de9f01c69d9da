"""The digest of the file that a network's weights begin with."""

from __future__ import annotations

import hashlib
import json

import pytest

from orchestrator import models
from orchestrator.search.records.first_weights import ENCODERS, PACKAGES, digest

LITE = {name: entry["sha256"] for name, entry in json.loads(PACKAGES.read_text("utf-8")).items()}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, LITE["tf_efficientnet_lite0"]),
        ({"encoder": "tf_efficientnet_lite2.in1k"}, LITE["tf_efficientnet_lite2"]),
        ({"encoder": "resnet34"}, None),
        ({"pretrained": False}, None),
    ],
)
def test_packaged_weights_name_a_fit_and_those_of_a_hub_do_not(params, expected):
    assert digest("encoder_decoder", params) == expected


def test_a_file_of_the_users_has_priority(tmp_path):
    (tmp_path / "own.pth").write_bytes(b"own")
    assert (
        digest("encoder_decoder", {"weights": str(tmp_path / "own.pth")})
        == hashlib.sha256(b"own").hexdigest()
    )


def test_fits_of_networks_that_download_their_weights_keep_their_names():
    assert digest("pranet", {"encoder": "tf_efficientnet_lite0", "pretrained": True}) is None


def test_the_encoders_by_default_are_those_of_the_networks():
    assert {name: models.params(name)["encoder"].default for name in ENCODERS} == ENCODERS
    assert all(models.params(name)["pretrained"].default is True for name in ENCODERS)
