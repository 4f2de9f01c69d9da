"""Where published archives keep their frames and masks, and what they tell of groups and centers.

LAYOUTS is the table; a new archive is one more entry, a test for it one more tree of small files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.data.images import image_size
from orchestrator.data.pairs import Membership, Pair
from orchestrator.errors import BadData

# First frame of each of the 29 sequences, from the README of CVC-ClinicDB (Bernal et al. 2015); the last is 612.
CLINIC_FIRST_FRAMES = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
CLINIC_LAST_FRAME = 612
CLINIC_SIZE = (288, 384)

# Names of single frames in copies of PolypGen that lost its folders; C1, C2 and C4 are inferred (Ali et al. 2023).
POLYPGEN_CENTERS = {
    "C1": r"(\d+OLCV1_)?100[A-Z]\d{4}",
    "C2": r"EndoCV2021_\d+",
    "C3": r"C3_EndoCV2021_\d+",
    "C4": r"\d+_endocv2021_(positive|negative)_\d+( \d+)?",
    "C5": r"EndoCV2021_C5_\d+",
    "C6": r"EndoCV2021_C6_\d+",
}


def clinic_sequence(frame: int) -> str:
    """The video sequence, "1" to "29", of a frame of CVC-ClinicDB, 1 to 612."""
    return str(sum(first <= frame for first in CLINIC_FIRST_FRAMES))


def clinic_sequences(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Sequences of the pairs that are named 1 to 612; none at all unless each of them is 384 x 288."""
    frames = {pair.stem: int(pair.stem) for pair in pairs if pair.stem.isdecimal() and pair.stem.isascii()}
    if not all(1 <= frame <= CLINIC_LAST_FRAME for frame in frames.values()):
        return {}
    if any(_size(pair.image) != CLINIC_SIZE for pair in pairs if pair.stem in frames):
        return {}
    return {stem: Membership(group=clinic_sequence(frame)) for stem, frame in frames.items()}


def whole_clinic_sequences(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Sequences where the frames are all 612 of CVC-ClinicDB: smaller sets named by number could be anything."""
    everyone = {str(frame) for frame in range(1, CLINIC_LAST_FRAME + 1)}
    return clinic_sequences(pairs) if {pair.stem for pair in pairs} == everyone else {}


def polypgen_centers(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Centers of frames that are named as PolypGen names its single frames."""
    return {
        pair.stem: Membership(center=center)
        for pair in pairs
        for center, pattern in POLYPGEN_CENTERS.items()
        if re.fullmatch(pattern, pair.stem)
    }


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except BadData:  # said of the file itself when it is decoded
        return None


def nothing(pairs: Sequence[Pair]) -> dict[str, Membership]:
    return {}


@dataclass(frozen=True)
class Layout:
    """Where an archive keeps its frames and their masks; patterns are regular expressions for whole names."""

    title: str
    shape: str  # how it looks, for people
    images: str  # the folder of frames; its groups root, part, center and group are kept
    masks: str  # the folder of masks, those groups filled in; "" where no mask was drawn as there is no polyp
    frame: str = ".+"  # the name of a frame without suffix; its group stem, if any, is what pairs it
    mask: str = "(?P<stem>.+?)(_mask)?"
    skip: str = ""  # names of files that lie about between them in the published archive
    part: str = "{root}"  # what to call frames from such folders where an archive holds several sets
    joined: bool = False  # parts of this title make one dataset
    empty: bool = False  # masks without a polyp belong here
    members: Callable[[Sequence[Pair]], Mapping[str, Membership]] = nothing  # by stem; adds to the folder's


TOP = "(?P<root>(?:.*/)?)"
IMAGES, MASKS = TOP + "(?i:images?)", "{root}(?i:masks?)"
STRAY = r"[_\]]?"  # one frame of center C3 ends in "_" or, in EndoCV2021, in "]"; its mask does not
POLYPGEN = Layout(
    title="PolypGen",
    shape="images_C1/ + masks_C1/ to C6, images_seq1/ + masks_seq1/, seq1_neg/",
    images=TOP + "images_(?P<center>C[1-6])",
    masks="{root}masks_{center}",
    frame=rf"(?P<stem>.+?){STRAY}",
    mask=rf"(?P<stem>.+?){STRAY}(_mask)?",
    skip=r".*\.txt",  # boxes among the masks of three sequences
    part="frames",
    joined=True,
    empty=True,
)
PRANET = Layout(
    title="PraNet bundle",
    shape="TrainDataset/image/ + mask/, TestDataset/*/images/ + masks/",
    images=TOP + "(?P<part>TrainDataset|TestDataset/[^/]+)/(?i:images?)",
    masks="{root}{part}/(?i:masks?)",
    part="{part}",
)
LAYOUTS = (  # from particular to general: the first that fits a folder takes it
    POLYPGEN,
    replace(
        POLYPGEN, images=TOP + r"images_(?P<group>seq\d+)", masks="{root}masks_{group}", part="sequences"
    ),
    replace(POLYPGEN, images=TOP + r"(?P<group>seq\d+_neg)", masks="", part="negatives"),
    replace(
        PRANET,
        images=TOP + "(?P<part>TrainDataset|TestDataset/CVC-ClinicDB)/(?i:images?)",
        members=clinic_sequences,
    ),
    PRANET,
    Layout(
        title="CVC-ClinicDB",
        shape="Original/ + Ground Truth/",
        images=TOP + "Original",
        masks="{root}Ground Truth",
        members=clinic_sequences,
    ),
    Layout(
        title="ETIS-LaribPolypDB",
        shape="ETIS-LaribPolypDB/ + Ground Truth/, masks p1",
        images=TOP + "ETIS-LaribPolypDB",
        masks="{root}Ground Truth",
        frame=r"\d+",
        mask=r"p?(?P<stem>\d+)",
    ),
    Layout(
        title="EndoScene",
        shape="CVC-300/bbdd/ + gtpolyp/, CVC-612/bbdd/ + gtpolyp/",
        images=TOP + "(?P<part>CVC-(300|612))/bbdd",
        masks="{root}{part}/gtpolyp",
        part="{part}",
    ),
    Layout(
        title="CVC-ColonDB",
        shape="1.bmp + p1.bmp in one folder",
        images="(?P<root>.*)",
        masks="{root}",
        frame=r"\d+",
        mask=r"p(?P<stem>\d+)",
        skip=r"[sc]\d+\..*",  # regions without information, contours
    ),
    Layout(
        title="Kvasir-SEG",
        shape="images/ + masks/ named cju... or ck2...",
        images=IMAGES,
        masks=MASKS,
        frame=r"c[jk][a-z0-9]{23}",
    ),
    Layout(
        title="PolypGen without its folders",
        shape="images/ + masks/ named EndoCV2021_...",
        images=IMAGES,
        masks=MASKS,
        frame=f"(?P<stem>{'|'.join(POLYPGEN_CENTERS.values())}){STRAY}",
        mask=POLYPGEN.mask,
        empty=True,
        members=polypgen_centers,
    ),
    Layout(
        title="EndoTect 2020",
        shape="images/ + masks/ named by UUID",
        images=IMAGES,
        masks=MASKS,
        frame=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        empty=True,
    ),
    Layout(
        title="Medico 2020",
        shape="Medico_automatic_polyp_segmentation.../images/ + masks/",
        images=r"(?P<root>(?:.*/)?(?i:medico)[^/]*/)(?i:images?)",
        masks=MASKS,
    ),
    Layout(
        title="images and masks",
        shape="images/ + masks/",
        images=IMAGES,
        masks=MASKS,
        members=whole_clinic_sequences,
    ),
)
ANY_FOLDER = LAYOUTS[-1]
