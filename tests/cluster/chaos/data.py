"""Files of a dataset change between the start of a study and its resumption."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from chaos.disturbed_study import FAULT, INTERRUPTED, DisturbedStudy
from chaos.faults import fault

CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "replaced by another": lambda file, other: file.write_bytes(other.read_bytes()),
    "cut to half": lambda file, other: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file, other: file.write_bytes(b""),
    "deleted": lambda file, other: file.unlink(),
}


@fault("data", "an image or mask is replaced, cut, emptied, deleted while the study rests; put back", "data")
def data(disturbed: DisturbedStudy) -> None:
    process = disturbed.start()
    disturbed.until_train()
    disturbed.disturb("SIGTERM", lambda: process.send_signal(signal.SIGTERM))
    disturbed.end(INTERRUPTED)
    for what, change in CHANGES.items():
        folder = disturbed.home / "datasets" / "near" / disturbed.rng.choice(["images", "masks"])
        file, other = disturbed.rng.sample(sorted(folder.iterdir()), 2)
        content = file.read_bytes()
        change(file, other)
        disturbed.say(f"{folder.name}/{file.name} is {what}")
        disturbed.start()
        disturbed.end(FAULT)
        assert file.name in disturbed.last_output(), disturbed.last_output()
        file.write_bytes(content)
    disturbed.say("all are put back")
    disturbed.start()
    disturbed.recover(since=disturbed.begun)
    disturbed.finish()
