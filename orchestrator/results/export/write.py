"""From a trained network to a bundle: weights, ONNX checked against torch, config and card, in one rename."""

from __future__ import annotations

import copy
import glob
import logging
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save
from torch import Tensor, nn

import orchestrator
from orchestrator.common.display import counted
from orchestrator.common.errors import BadBundle
from orchestrator.common.files import hidden_folder_for, naming, refuse_as_output
from orchestrator.results.export.bundle import (
    FILES,
    WEIGHT_FILES,
    BundleConfig,
    MemberNetwork,
    PostRules,
    is_bundle,
)
from orchestrator.results.export.bundle_files import graph_problems, sha256
from orchestrator.results.export.card.evidence import FAILURES, picture_name
from orchestrator.results.export.checksums import NAME as CHECKSUMS
from orchestrator.results.export.checksums import write_checksums
from orchestrator.results.export.formats.further import FURTHER, Source, write_further
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.training.recipe import Tta
from orchestrator.training.validation.test_time_averaging import averaged

if TYPE_CHECKING:
    from orchestrator.results.export.formats.fewer_bits import StudyImages

TOLERANCE = 1e-4
LARGEST_ONNX = 2_000_000_000  # bytes of weights; protobuf ends at 2 GiB


class Prediction(nn.Module):
    """Module with the main prediction of a network, without its side outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 3, S, S) in [0, 1] -> logits (B, 1, S, S)."""
        out: Tensor = self.network(image)[0]
        return out


def write_bundle(
    folder: Path,
    networks: Sequence[nn.Module],
    *,
    network_name: str,
    network_params: dict[str, Any],
    image_size: int,
    members: Sequence[MemberNetwork] = (),
    tta: Tta = "none",
    masks: PostProcess,
    trained_on: dict[str, str],
    held_out: tuple[str, ...],
    near_duplicates: tuple[str, ...] = (),
    card: str,
    formats: Sequence[str] = ("onnx",),
    images: StudyImages | None = None,
    metadata: Mapping[str, str] | None = None,
    pictures: Sequence[bytes | None] = (),
) -> Path:
    """Export one network, or several whose probabilities are averaged; an older bundle in `folder` is replaced.

    `members`: what each of the networks is, where they are not all alike. `formats`: of `formats_of`; `images`: what
    fp16 and int8 are made and measured with; `metadata`: what pipeline.onnx says of itself;
    `pictures`: of the card, by their numbers.

    Raises `BadBundle` where something else is in the folder, or all networks together are too large for ONNX.
    """
    refuse_to_overwrite(folder)
    _refuse_too_large(folder, networks)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with naming(folder), hidden_folder_for(folder) as partial:
        shares = [member.share for member in members] or None
        copies = [copy.deepcopy(network).cpu().eval() for network in networks]
        # Not by save_file: what it writes nobody but its owner can read, whatever the umask says.
        (partial / "model.safetensors").write_bytes(save(_named_weights(copies)))
        network = averaged(copies, tta, shares)
        export_onnx(network, image_size, partial / "model.onnx")
        config = BundleConfig(
            network=network_name,
            network_params=network_params,
            members=len(networks),
            networks=tuple(members),
            tta=tta,
            image_size=image_size,
            threshold=masks.threshold,
            post_processing=PostRules.of(masks),
            trained_on=trained_on,
            held_out=held_out,
            twins=near_duplicates,
            sha256={name: sha256(partial / name) for name in WEIGHT_FILES},
        )
        (partial / "config.json").write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (partial / "model_card.md").write_text(card, encoding="utf-8")
        _write_pictures(partial / FAILURES, pictures)
        source = Source(Prediction(network), network_name, image_size, config.normalization.scale, masks)
        facts = dict(metadata or {}) | _metadata(config)
        write_further(partial, source, formats, facts, images)
        write_checksums(partial)
        _swap_in(partial, folder)
    return folder


def export_onnx(network: nn.Module, image_size: int, path: Path) -> None:
    """Write ONNX with a free batch dimension.

    RuntimeError if it differs from torch by more than 1e-4, or would be refused where it is read.
    The difference of two logits counts relative to the logit where that is larger than one, so the
    probabilities agree to 3e-5 everywhere.
    """
    prediction = Prediction(network).eval()
    # It warns of operators of torchvision, which no network here has.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)  # torch 2.10's exporter, of itself
        torch.onnx.export(
            prediction,
            (torch.rand(2, 3, image_size, image_size),),
            path,
            dynamo=True,
            external_data=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch_size in (1, 3):
        difference = largest_difference(prediction, session, image_size, batch_size)
        if not difference <= TOLERANCE:  # written so that NaN is refused too
            raise RuntimeError(
                f"model.onnx differs from torch by {difference:.2g} on a batch of {batch_size}"
            )
    if problems := graph_problems(path.read_bytes(), image_size):
        raise RuntimeError(f"model.onnx would be refused: {'; '.join(problems)}")


def largest_difference(
    prediction: nn.Module, session: onnxruntime.InferenceSession, image_size: int, batch_size: int
) -> float:
    """The largest |onnx - torch| / max(1, |torch|) over the logits of random images."""
    generator = torch.Generator().manual_seed(batch_size)
    image = torch.rand(batch_size, 3, image_size, image_size, generator=generator)
    with torch.no_grad():
        expected = prediction(image).numpy()
    (found,) = session.run(["logits"], {"image": image.numpy()})
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


def _write_pictures(folder: Path, pictures: Sequence[bytes | None]) -> None:
    """The pictures that the card shows, if there are any."""
    for number, picture in enumerate(pictures, start=1):
        if picture is not None:
            folder.mkdir(exist_ok=True)
            (folder / picture_name(number)).write_bytes(picture)


def _metadata(config: BundleConfig) -> dict[str, str]:
    """Metadata of an ONNX graph, as text: network, views, threshold, rules, version, digest of weights."""
    return {
        "network": config.network,
        "members": str(config.members),
        "views": config.tta,
        "network_side": str(config.image_size),
        "threshold": str(config.threshold),
        "post_processing": config.post_processing.model_dump_json(),
        "program": "polyp-orchestrator",
        "version": orchestrator.__version__,
        "weights_sha256": config.sha256["model.safetensors"],
    }


def _named_weights(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Weights under their own names, or of several networks with the network's number in front."""
    return {
        f"{number}.{name}" if len(networks) > 1 else name: tensor.clone().contiguous()
        for number, network in enumerate(networks)
        for name, tensor in network.state_dict().items()
    }


def _refuse_too_large(folder: Path, networks: Sequence[nn.Module]) -> None:
    num_bytes = sum(
        tensor.numel() * tensor.element_size()
        for network in networks
        for tensor in network.state_dict().values()
    )
    if num_bytes > LARGEST_ONNX:
        raise BadBundle(
            str(folder),
            f"{counted(len(networks), 'network')} of {num_bytes / 1e9:.1f} GB together; an ONNX file holds "
            f"{LARGEST_ONNX / 1e9:.1f} GB at most: export one network, with or without --refit",
        )


def refuse_to_overwrite(folder: Path) -> None:
    """Raises `BadData` where no folder can be written, `BadBundle` where it holds something else than an export."""
    refuse_as_output(folder, "--export", folder=True)
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if foreign := sorted(names - {*FILES, *FURTHER, CHECKSUMS, FAILURES} if is_bundle(folder) else names):
        raise BadBundle(
            str(folder),
            f"it would be replaced, but holds more than an older export ({', '.join(foreign[:3])}); "
            "name a folder that is new or empty",
        )


def named_export(folder: Path) -> str | None:
    """Trial, study and weights of an older export in a folder, by its card; None where there is none."""
    card = folder / "model_card.md"
    if not is_bundle(folder) or not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    which = (line.split(". Input")[0] for line in lines if line.startswith("Trial "))
    return next(which, "an earlier export")


def why_ask(folder: Path, study: str, trial: int, *, refit: bool, ensemble: bool, chosen: bool) -> str | None:
    """Older export that would be replaced unexpectedly; None where no export is, or one of the same sort.

    The same sort: a network of the same kind (fold, refit, ensemble) of the same study, chosen by the study (`chosen`)
    or of the same trial.
    """
    earlier = named_export(folder)
    if earlier is None:
        return None
    found = re.match(r"Trial (\d+) of the study `(.+?)`; weights: (.*)", earlier)
    if found is None or found[2] != study or not (chosen or int(found[1]) == trial):
        return earlier
    is_alike = ("trained again" in found[3], "averaged" in found[3]) == (refit, ensemble)
    return None if is_alike else earlier


def refuse_to_replace(folder: Path, earlier: str | None, replace: bool | Callable[[str], bool]) -> None:
    """Raises `BadBundle` where the folder holds another network, which nobody wants to be replaced."""
    if earlier is None or replace is True:
        return
    question = f"{folder} holds another network ({earlier}); replace it"
    if replace is False or not replace(question):
        raise BadBundle("--yes", f"is needed because nobody can be asked here: {question}")


def _swap_in(partial: Path, folder: Path) -> None:
    """Put the new bundle in place; killed in between, the older one is out of sight, never mixed."""
    for path in (path for path in partial.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists():
        folder.rename(folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.older"))
    partial.rename(folder)
    for older in folder.parent.glob(f".{glob.escape(folder.name)}.*.older"):  # of a killed process, too
        shutil.rmtree(older, ignore_errors=True)
