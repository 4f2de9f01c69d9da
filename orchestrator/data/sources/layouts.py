"""Layouts of published archives: folders of frames and masks, and groups and centers that names contain.

LAYOUTS is the table; a new archive is one more entry, and its test one more tree of small files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.data.sources.sequences import (
    PICCOLO,
    POLYPGEN_CENTERS,
    Members,
    clinic_sequences,
    colon_sequences,
    no_members,
    piccolo_patients,
    polypgen_centers,
    whole_clinic_sequences,
    whole_sequences,
)


@dataclass(frozen=True)
class Layout:
    """Folders and file names of an archive; patterns are regular expressions for whole names."""

    title: str
    shape: str  # description for people
    images: str  # the folder of frames, with groups root, part, center and group
    masks: str  # the folder of masks, those groups filled in; "" if frames have no masks since they show no polyp
    frame: str = (
        ".+"  # the name of a frame without suffix; frame and mask share the group stem, if there is one
    )
    mask: str = "(?P<stem>.+?)(_mask)?"
    skip: str = ""  # names of other files that the published archive contains
    part: str = "{root}"  # name of frames from such folders where an archive has several sets
    joined: bool = False  # whether parts with this title make one dataset
    empty: bool = False  # whether masks without a polyp are expected
    view: str = ""  # one of several arrangements of the same images: parts of two views are not joined
    labels: str = ""  # the folder with nnU-Net's dataset.json, which names the labels of masks
    refused: str = ""  # why such a set cannot be read, and what to do
    members: Members = no_members  # by stem; in addition to the folder's

    @property
    def own(self) -> bool:
        """Whether this is a user's own folder structure, not a published layout."""
        return not self.images


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
SUN_SEG = Layout(
    title="SUN-SEG",
    shape="TrainDataset/Frame/case1_1/ + GT/case1_1/, TestEasyDataset/Seen/ ..., group = case",
    images=TOP
    + r"(?P<part>(?:Train|Test)\w*Dataset(?:/(?:Seen|Unseen))?)/Frame/(?P<group>case\d+)(?P<clip>_\d+)",
    masks="{root}{part}/GT/{group}{clip}",
    part="{part}",
)
FIRST_VIEW = "center-wise"  # read where a source holds several views
CENTERS, MODALITIES = "BKAI|Karolinska|Simula", "BLI|FICE|LCI|NBI|WLI"
POLYPDB = Layout(
    title="PolypDB",
    shape="PolypDB_center_wise/BKAI/WLI/images/ + masks/, PolypDB_modality_wise/WLI/ ...",
    images=TOP + rf"(?P<part>[^/]*center[^/]*/(?P<center>{CENTERS})/(?:{MODALITIES}))/(?i:images?)",
    masks="{root}{part}/(?i:masks?|annotations?)",
    part="{part}",
    joined=True,
    view=FIRST_VIEW,
)
LAYOUTS = (  # from specific to general: a folder gets the first that fits
    POLYPGEN,
    replace(
        POLYPGEN, images=TOP + r"images_(?P<group>seq\d+)", masks="{root}masks?_{group}", part="sequences"
    ),
    replace(POLYPGEN, images=TOP + r"(?P<group>seq\d+_neg)", masks="", part="negatives"),
    replace(
        PRANET,
        images=TOP + "(?P<part>TrainDataset|TestDataset/CVC-ClinicDB)/(?i:images?)",
        members=clinic_sequences,
    ),
    replace(
        PRANET,
        images=TOP + "(?P<part>TestDataset/CVC-ColonDB)/(?i:images?)",
        members=colon_sequences,
    ),
    PRANET,
    SUN_SEG,
    replace(
        SUN_SEG,
        images=TOP + r"Frame/(?P<group>case\d+)(?P<clip>_\d+)",
        masks="{root}GT/{group}{clip}",
        part="{root}",
    ),
    Layout(
        title="BKAI-IGH NeoPolyp",
        shape="train/train/ + train_gt/train_gt/; test/ has no masks",
        images=TOP + "train/train",
        masks="{root}train_gt/train_gt",
    ),
    Layout(
        title="BKAI-IGH NeoPolyp",
        shape="train/ + train_gt/, names of 32 hex digits",
        images=TOP + "train",
        masks="{root}train_gt",
        frame="[0-9a-f]{32}",
    ),
    replace(
        POLYPDB,
        images=TOP
        + rf"(?P<part>[^/]*modality[^/]*/(?:(?P<center>{CENTERS})/)?(?:{MODALITIES}))/(?i:images?)",
        view="modality-wise",
    ),
    POLYPDB,
    replace(POLYPDB, images=TOP + f"(?P<part>(?P<center>{CENTERS})/(?:{MODALITIES}))/(?i:images?)"),
    replace(POLYPDB, images=TOP + f"(?P<part>[^/]*center[^/]*/(?P<center>{CENTERS}))/(?i:images?)"),
    replace(POLYPDB, images=TOP + f"(?P<part>(?P<center>{CENTERS}))/(?i:images?)"),
    replace(
        POLYPDB,
        images=TOP + f"(?P<part>(?:{MODALITIES}))/(?i:images?)",
        view="modality-wise",
    ),
    Layout(
        title="PICCOLO",
        shape="train/polyps/ + train/masks/, names as 001_VP1_frame0000",
        images=r"(?P<root>(?:.*/)?)(?P<part>(?:(?:train|validation|test)/)*)polyps",
        masks="{root}{part}masks",
        frame=PICCOLO,
        mask=r"(?P<stem>\d{3}_VP\d+_frame\d+)(_[A-Za-z]+)?",
        part="{part}",
        members=piccolo_patients,
    ),
    Layout(
        title="nnU-Net raw",
        shape="imagesTr/ + labelsTr/, names as CASE_0000",
        images=TOP + "images(?P<part>Tr|Ts)",
        masks="{root}labels{part}",
        frame=r"(?P<stem>.+)_0000",
        mask="(?P<stem>.+)",
        part="{part}",
        labels="{root}",
    ),
    Layout(
        title="nnU-Net raw",
        shape="imagesTr/ + labelsTr/, names as CASE_0000, CASE_0001, ...",
        images=TOP + "images(?P<part>Tr|Ts)",
        masks="{root}labels{part}",
        frame=r"(?P<stem>.+)_\d{4}",
        mask="(?P<stem>.+)",
        part="{part}",
        refused="each image is in several files, one for each channel (CASE_0000, CASE_0001, ...); merge them into one "
        "RGB image CASE_0000 each, and add the folder again",
    ),
    Layout(
        title="mmsegmentation",
        shape="img_dir/train/ + ann_dir/train/",
        images=TOP + "img_dir/(?P<part>[^/]+)",
        masks="{root}ann_dir/{part}",
        mask="(?P<stem>.+?)(_mask|_labelTrainIds|_seg)?",
        part="{part}",
    ),
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
        members=whole_clinic_sequences,
    ),
    Layout(
        title="EndoScene",
        shape="bbdd/ + gtpolyp/",
        images=TOP + "bbdd",
        masks="{root}gtpolyp",
        members=whole_clinic_sequences,
    ),
    Layout(
        title="CVC-VideoClinicDB",
        shape="1/ with 1-1.png + 1-1_Polyp.tif",
        images=TOP + r"(?P<group>\d+)",
        masks="{root}{group}",
        frame=r"\d+-\d+",
        mask=r"(?P<stem>\d+-\d+)_Polyp",
        part="{root}",
        joined=True,
        empty=True,
    ),
    Layout(
        title="CVC-ColonDB",
        shape="1.bmp + p1.bmp in one folder",
        images="(?P<root>.*)",
        masks="{root}",
        frame=r"\d+",
        mask=r"p(?P<stem>\d+)",
        skip=r"[sc]\d+\..*",  # regions without information, contours
        members=colon_sequences,
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
)
OWN = Layout(
    title="images and masks",
    shape="images/ + masks/",
    images="",  # found by own_folders.py
    masks="",
    part="{part}",
    members=whole_sequences,
)
