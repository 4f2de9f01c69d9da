"""Fields that can be stated of a dataset. `--help` reads this module, so nothing heavy is imported here."""

from __future__ import annotations

# What can be stated -> what it is.
FIELDS = {
    "licence": "Licence or terms of use, such as CC-BY-4.0.",
    "source": "Where it is from: a URL, a paper, a hospital.",
    "annotators": "Who drew the masks, and how they were checked.",
    "dates": "When the images were taken, such as 2012-2018.",
    "inclusion": "Which images were included, and which were not.",
    "centers": "Hospitals, with countries.",
    "devices": "Endoscopes and processors.",
    "citation": "How the dataset should be cited.",
}
