"""Files of a dataset change between the start of a study and its resumption."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from chaos.faults import fault
from chaos.scene import FAULT, INTERRUPTED, Scene

CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "replaced by another": lambda file, other: file.write_bytes(other.read_bytes()),
    "cut to half": lambda file, other: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file, other: file.write_bytes(b""),
    "deleted": lambda file, other: file.unlink(),
}


@fault("data", "an image or mask is replaced, cut, emptied, deleted while the study rests; put back", "data")
def data(scene: Scene) -> None:
    process = scene.start()
    scene.until_train()
    scene.strike("SIGTERM", lambda: process.send_signal(signal.SIGTERM))
    scene.end(INTERRUPTED)
    for what, change in CHANGES.items():
        folder = scene.home / "datasets" / "near" / scene.rng.choice(["images", "masks"])
        file, other = scene.rng.sample(sorted(folder.iterdir()), 2)
        content = file.read_bytes()
        change(file, other)
        scene.say(f"{folder.name}/{file.name} is {what}")
        scene.start()
        scene.end(FAULT)
        assert file.name in scene.last_words(), scene.last_words()
        file.write_bytes(content)
    scene.say("all are put back")
    scene.start()
    scene.recover(since=scene.begun)
    scene.finish()
