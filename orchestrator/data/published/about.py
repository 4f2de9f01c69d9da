"""Facts on published datasets, as their authors state: groups, centers, masks, terms, shared frames.

ABOUT is the source of `orchestrator data layouts`, of remarks after an import, and of the table in docs/data.md.
`--help` and `data layouts` read this module, so nothing heavy is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

UNKNOWN = "-"
IN_BLACK_AND_WHITE = "black and white"


@dataclass(frozen=True)
class About:
    """A published dataset. Texts are for people; patterns are regular expressions."""

    groups: str = UNKNOWN  # what is a group
    centers: str = UNKNOWN
    masks: str = IN_BLACK_AND_WHITE
    terms: str = UNKNOWN  # of use, in a word or two
    stated: str = ""  # where the terms are stated
    part: str = ""  # of a source with several sets, the value of --part for all that belong together
    notes: tuple[str, ...] = ()  # remarks after an import
    classes: tuple[str, ...] = ()  # meaning of colors, as in --mask-classes
    # folder below the source, whole or with a leading path -> what it holds, for folders that are not read
    others: tuple[tuple[str, str], ...] = ()


ABOUT: dict[str, About] = {
    "BKAI-IGH NeoPolyp": About(
        masks="red neoplastic, green non-neoplastic, by class",
        terms="competition rules",
        stated="kaggle.com/c/bkai-igh-neopolyp",
        classes=("neoplastic=red", "non-neoplastic=green"),
        others=(("test(/test)?", "published without masks"),),
    ),
    "CVC-ClinicDB": About(
        groups="29 video sequences",
        terms="research",
        stated="its README.txt",
        notes=("the same frames are in EndoScene (CVC-612) and in the PraNet bundle",),
    ),
    "CVC-ColonDB": About(
        groups="15 video sequences",
        notes=("it shares frames with EndoScene (CVC-300)", "the same frames are in the PraNet bundle"),
    ),
    "CVC-VideoClinicDB": About(
        groups="videos",
        masks="black and white, rough outlines; many frames without polyp",
        notes=("it may show the polyps of CVC-ClinicDB, from the same hospital",),
    ),
    "EndoScene": About(
        groups="29 video sequences, where all 612 frames of CVC-612 are there",
        part="'*'",
        notes=(
            "CVC-612 holds the frames of CVC-ClinicDB, and CVC-300 shares frames with CVC-ColonDB: neither tests what "
            "was trained on the other",
        ),
        others=(
            ("gtlumen", "masks of the lumen"),
            ("gtspecular", "masks of reflections"),
            ("gtvoid|border", "pixels outside the field of view"),
        ),
    ),
    "EndoTect 2020": About(masks="black and white; frames without polyp"),
    "ETIS-LaribPolypDB": About(notes=("the same frames are in the PraNet bundle",)),
    "Kvasir-SEG": About(
        terms="research",
        stated="github.com/DebeshJha/Kvasir-SEG",
        notes=(
            "HyperKvasir (segmented-images) and Medico 2020 hold the same images, Kvasir-Sessile and the PraNet bundle "
            "some of them",
        ),
    ),
    "Medico 2020": About(notes=("the same images are in Kvasir-SEG",)),
    "PICCOLO": About(
        groups="patients",
        terms="on request",
        stated="Basque Biobank",
        part="'*'",
        notes=("void masks are not read: pixels outside the field of view count as background",),
        others=(("void", "pixels outside the field of view"),),
    ),
    "PolypDB": About(
        centers="BKAI, Karolinska, Simula",
        terms="research",
        stated="github.com/DebeshJha/PolypDB",
        notes=(
            "BKAI-IGH NeoPolyp and Kvasir-SEG are from two of its hospitals, and may show the same polyps",
        ),
        others=(
            ("[^/]*modality[^/]*(/.*)?", "the same images by modality"),
            ("bbox|bounding_boxes", "boxes"),
        ),
    ),
    "PolypGen": About(
        groups="sequences (single frames have none)",
        centers="C1 to C6 (sequences have none)",
        masks="black and white; frames without polyp",
        terms="CC-BY-4.0",
        stated="synapse.org, syn26376615",
        part="frames",
        notes=("sequences have no center: leave-one-center-out takes --part frames",),
        others=(
            ("imagesAll_positive", "the single frames once more"),
            (r"bbox_images?_\w+", "frames with boxes drawn on them"),
        ),
    ),
    "PolypGen without its folders": About(
        centers="C1 to C6, by names", terms="CC-BY-4.0", stated="synapse.org, syn26376615"
    ),
    "PraNet bundle": About(
        groups="video sequences of CVC-ClinicDB and CVC-ColonDB",
        terms="those of its sources",
        part="TrainDataset",
        notes=(
            "TrainDataset is from Kvasir-SEG and CVC-ClinicDB; the test sets are the rest of both, CVC-300 (of "
            "EndoScene), CVC-ColonDB and ETIS-LaribPolypDB",
        ),
    ),
    "SUN-SEG": About(
        groups="cases (polyps)",
        terms="research, on request",
        stated="amed8k.sundatabase.org",
        part="'*'",
        notes=(
            "the frames are of the SUN database",
            "polyps in Seen are also in TrainDataset: only Unseen tests new polyps",
        ),
        others=(
            ("Edge(/.*)?", "outlines"),
            ("Scribble(/.*)?", "scribbles"),
            ("Polygon(/.*)?", "polygons"),
        ),
    ),
    "mmsegmentation": About(masks="--mask-values, where labels are 0, 1, ..."),
    "nnU-Net raw": About(masks="by the labels in dataset.json"),
}
OWN_LAYOUTS = (
    "also: images/ (frames/, imgs/ ...) + masks/ (gt/, labels/, annotations/ ...), a folder for each patient, or "
    "images and masks X_mask, X_seg, gt_X in one folder; --images, --masks and --pattern name anything else"
)


def meaning_of(folder: str, titles: Iterable[str]) -> str:
    """Meaning of a folder of published datasets that is not read; "" if it is not known."""
    for title in titles:
        for pattern, meaning in ABOUT.get(title, About()).others:
            if re.fullmatch(rf"(.*/)?({pattern})", folder):
                return meaning
    return ""


def notes_on(titles: Iterable[str]) -> list[str]:
    """Notes on these datasets for their users, a line each, such as frames that they share with others."""
    return [f"note: {note}" for title in dict.fromkeys(titles) for note in ABOUT.get(title, About()).notes]
