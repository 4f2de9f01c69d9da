from __future__ import annotations

import socket
import time

import pytest
from huggingface_hub import constants

from orchestrator import models

NOWHERE = "http://127.0.0.1:9"  # the port of `discard`: nothing listens


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_weights_that_cannot_be_downloaded_are_reported_at_once_and_without_retries(no_hub):
    begun = time.monotonic()
    with pytest.raises(
        ConnectionError, match=r"'resnet18' .*127.0.0.1:9 cannot be reached.*pretrained = false"
    ):
        models.build("encoder_decoder", encoder="resnet18")
    assert time.monotonic() - begun < 20  # its client would retry for 46 seconds
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_asked(no_hub, monkeypatch):
    from orchestrator.models.hub import without_waiting

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with without_waiting():
            assert not constants.HF_HUB_OFFLINE
