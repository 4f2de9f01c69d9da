"""The items of the checklists, and the fact that answers each; items without one are for people to write.

CLAIM: Checklist for Artificial Intelligence in Medical Imaging, 2024 update (44 items). TRIPOD: the 27 items of
TRIPOD+AI (2024). MIDL: the reproducibility list of the MIDL and MICCAI conferences. Items are in our words; the
checklists' own texts are what a journal asks for. QUAIDE (2025) is left out: the texts of its items are not public.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from orchestrator.common.names import require_entries
from orchestrator.results.report.checklists import about_data, about_method, about_results
from orchestrator.results.report.checklists.item import Item

Name = Literal["claim", "tripod", "midl"]

CLAIM = (
    Item("1", "Title or abstract names the study as one of AI, and the kind of method"),
    Item("2", "Structured abstract"),
    Item(
        "3",
        "Background, and the intended clinical use",
        about_method.use,
        "background, and the role that it may have in care",
    ),
    Item("4", "Aims and hypotheses"),
    Item(
        "5",
        "Prospective or retrospective",
        about_data.timing,
        "how the images were collected",
        ("dates", "inclusion"),
    ),
    Item("6", "Goal of the study", about_method.goal),
    Item(
        "7",
        "Sources of data",
        about_data.sources,
        "licences, dates and places of what is not stated here",
        ("licence", "source", "dates", "centers"),
    ),
    Item(
        "8",
        "Inclusion and exclusion",
        about_data.inclusion,
        "the rule of inclusion, where it is not stated here",
        ("inclusion",),
    ),
    Item("9", "Preprocessing", about_data.preprocessing),
    Item("10", "Selection of subsets of data", about_data.subsets),
    Item("11", "De-identification"),
    Item("12", "Missing data", about_data.missing),
    Item("13", "Acquisition of images", about_data.stated("devices", "dates"), "the protocol"),
    Item(
        "14",
        "Definition of the reference standard",
        about_data.reference,
        "by which criteria the masks were drawn",
    ),
    Item("15", "Why this reference standard"),
    Item("16", "Who annotated", about_data.stated("annotators")),
    Item(
        "17",
        "Annotation of the test set",
        about_data.annotation_of_test,
        "how, where it is not stated here",
        ("annotators",),
    ),
    Item("18", "Variability between and within raters"),
    Item("19", "Assignment of data to partitions", about_data.partitions),
    Item("20", "Level at which partitions are disjoint", about_data.level),
    Item("21", "Sample size", about_results.sample, "whether a size was planned"),
    Item("22", "The model", about_method.model),
    Item("23", "Software", about_method.software),
    Item("24", "Initial weights", about_method.initial),
    Item("25", "Training", about_method.training),
    Item("26", "Choice of the final model", about_method.selection),
    Item("27", "Ensembling", about_method.ensemble),
    Item("28", "Metrics", about_method.metrics),
    Item("29", "Significance and uncertainty", about_method.statistics),
    Item("30", "Robustness or sensitivity", about_results.sensitivity),
    Item("31", "Explainability", about_method.explained, "methods of your own"),
    Item("32", "Evaluation on internal data", about_results.internal),
    Item("33", "Evaluation on external data", about_results.external),
    Item("34", "Registration of a clinical trial"),
    Item("35", "Cases included and excluded", about_data.excluded),
    Item(
        "36",
        "Characteristics of cases in each partition",
        about_data.characteristics,
        "demographic and clinical data",
    ),
    Item("37", "Performance, with uncertainty", about_results.spread),
    Item("38", "Diagnostic performance and its precision", about_results.diagnostic),
    Item("39", "Failure analysis", about_results.failures),
    Item("40", "Limitations", about_results.limits, "those that no record shows"),
    Item("41", "Implications for practice"),
    Item("42", "Protocol, technical information", about_method.protocol),
    Item(
        "43",
        "Availability of software, model and data",
        about_method.available,
        "where data and model can be had",
    ),
    Item("44", "Funding"),
)
MIDL = (
    Item("1", "Model and algorithm described", about_method.model),
    Item("2", "Complexity: parameters, operations", about_method.model),
    Item("3", "Source of every dataset", about_data.sources),
    Item("4", "Statistics of every dataset", about_data.characteristics),
    Item("5", "Splits, and how they were made", about_data.partitions),
    Item("6", "Exclusions and preprocessing", about_data.excluded),
    Item("7", "New data: collection and annotation"),
    Item("8", "Ethics approval"),
    Item("9", "Range of hyperparameters considered, and how the best were chosen", about_method.training),
    Item("10", "Number of training and evaluation runs", about_method.runs),
    Item("11", "Seeds", about_method.seeds),
    Item("12", "Metrics defined", about_method.metrics),
    Item("13", "Central tendency and variation", about_results.spread),
    Item("14", "Statistical significance", about_method.statistics),
    Item("15", "Baselines, and how they were tuned", about_results.baseline),
    Item("16", "Failure cases", about_results.failures),
    Item("17", "Run time and energy", about_method.hardware),
    Item("18", "Memory"),
    Item("19", "Infrastructure: hardware and software", about_method.machine),
    Item("20", "Code, weights and commands", about_method.available),
    Item("21", "Clinical significance"),
)
TRIPOD = (
    Item("1", "Title"),
    Item("2", "Abstract"),
    Item(
        "3",
        "Background and intended use",
        about_method.use,
        "background, and the role that it may have in care",
    ),
    Item("4", "Objectives", about_method.goal),
    Item(
        "5",
        "Sources and dates of data",
        about_data.sources,
        "dates of what is not stated here",
        ("source", "dates"),
    ),
    Item("6", "Participants and settings", about_data.stated("centers"), "participants"),
    Item("7", "Preparation of data", about_data.preprocessing),
    Item("8", "Outcome and its assessment", about_data.reference, "by which criteria the masks were drawn"),
    Item("9", "Predictors"),
    Item("10", "Sample size", about_results.sample, "whether a size was planned"),
    Item("11", "Missing data", about_data.missing),
    Item("12", "Analysis: partitions, model, tuning, calibration", about_results.analysis),
    Item("13", "Class imbalance", about_data.characteristics),
    Item("14", "Fairness: subgroups", about_results.subgroups, "demographic subgroups"),
    Item("15", "Output and thresholds", about_method.output),
    Item("16", "Training against evaluation data", about_data.compared_sets),
    Item("17", "Ethical approval"),
    Item(
        "18", "Open science: protocol, data, code", about_method.available, "funding, conflicts, registration"
    ),
    Item("19", "Patient and public involvement"),
    Item("20", "Flow of participants", about_data.excluded, "participants behind the images"),
    Item("21", "Numbers in each analysis", about_data.partitions),
    Item("22", "Full model", about_method.full_model),
    Item("23", "Performance with intervals", about_results.spread),
    Item("24", "Updating of the model"),
    Item("25", "Interpretation"),
    Item("26", "Limitations", about_results.limits, "those that no record shows"),
    Item("27", "Usability in care"),
)
CHECKLISTS: dict[Name, Sequence[Item]] = {"claim": CLAIM, "tripod": TRIPOD, "midl": MIDL}
require_entries(CHECKLISTS, get_args(Name), "checklists")
