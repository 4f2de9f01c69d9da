"""Reading of the files of a study; errors describe the damage and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from orchestrator.common.errors import BadSpace, BadSplit
from orchestrator.common.stored_json import Unreadable, parse_json
from orchestrator.common.user_documents import read_bounded
from orchestrator.data.cases import Dataset
from orchestrator.data.splits.split_file import read_plan
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.search.space.space import SearchSpace, checked_before
from orchestrator.search.store.optuna_storage import explained_errors, open_database
from orchestrator.search.store.study_record import MadeOf, text_digest

ANEW = "the same `orchestrator search` writes it again"


def read_space(file: Path, made_of: MadeOf) -> SearchSpace:
    """The space of a study, checked when stored. Raises `BadSpace` if it is damaged or another by now."""
    try:
        space = checked_before(read_bounded(file, BadSpace, megabytes=1).decode(), file)
    except UnicodeDecodeError as error:
        found = f"found byte {error.object[error.start]:#04x}"
        raise BadSpace(str(file), f"expected text in UTF-8, {found}; {ANEW}") from error
    except BadSpace as error:
        *others, last = error.problems
        raise BadSpace(error.where, [*others, f"{last}; {ANEW}"]) from error
    text = made_of.space_text
    is_same = space.digest == made_of.space if text is None else text_digest(space) == text
    if not is_same:
        raise BadSpace(str(file), f"is not what the study was made of; {ANEW}")
    return space


def read_split(file: Path, datasets: Sequence[Dataset], unseen: Sequence[Dataset]) -> SplitPlan:
    """The split of a study. Raises `BadSplit` if the file was damaged, or the datasets are others by now."""
    try:
        return read_plan(file, datasets, unseen)
    except BadSplit as error:
        try:
            parse_json(file, dict[str, Any])
        except Unreadable as why:
            raise BadSplit(str(file), f"{why}; {ANEW}") from error
        except FileNotFoundError:
            raise BadSplit(str(file), f"is gone; {ANEW}") from None
        raise


def read_database(url: str, name: str) -> list[FrozenTrial]:
    """The trials of the Optuna study of that name; [] if there is no such study. Raises `BadMachine`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with explained_errors():
        try:
            return optuna.load_study(storage=open_database(url), study_name=name).get_trials(deepcopy=False)
        except KeyError:
            return []
