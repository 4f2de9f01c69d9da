"""MLflow is away, hangs, answers nonsense, or takes no password while a study searches."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaos.faults import fault
from chaos.gate import PASSWORD, USER, Gate, State, mlflow_behind_gate
from chaos.home import LONG
from chaos.scene import Scene

AWAY_S = 150.0


def gate_of(scene: Scene) -> Gate:
    """A server for this study."""
    gate = scene.stack.enter_context(mlflow_behind_gate(scene.folder))
    scene.uri = gate.uri
    return gate


def shut_then_open(scene: Scene, shut: Callable[[], None], open_again: Callable[[], None]) -> None:
    """Shut mid-search, which ends before MLflow is back; then the same command, which writes the rest."""
    scene.start()
    scene.until_train()
    scene.strike("MLflow is shut", shut)
    scene.recover()
    scene.end(0)
    open_again()
    scene.say("MLflow is open again")
    scene.start()
    scene.end(0)
    assert "is away" not in scene.last_words(), scene.last_words()


@fault("mlflow-down", "MLflow refuses connections until after the search", "mlflow")
def down(scene: Scene) -> None:
    gate = gate_of(scene)
    shut_then_open(scene, gate.go_down, gate.come_back)


@fault("mlflow-minutes", "MLflow is down for minutes of the search", "mlflow", epochs=LONG)
def minutes(scene: Scene) -> None:
    gate = gate_of(scene)
    scene.start()
    scene.until_train((0.05, 0.1))
    scene.strike("MLflow is down", gate.go_down)
    scene.recover()
    time.sleep(max(0.0, AWAY_S - (time.monotonic() - scene.struck)))
    gate.come_back()
    scene.say("MLflow is back")
    scene.finish()


def answering(state: State) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        gate = gate_of(scene)
        shut_then_open(scene, lambda: gate.turn(state), lambda: gate.turn("open"))

    return act


fault("mlflow-hangs", "MLflow accepts and never answers until after the search", "mlflow")(
    answering("hanging")
)
fault("mlflow-500", "MLflow answers 500 until after the search", "mlflow")(answering("500"))
fault("mlflow-html", "MLflow answers 200 with a page of HTML until after the search", "mlflow")(
    answering("html")
)

fault(
    "mlflow-cut", "MLflow does what it is asked, and its answers are lost until after the search", "mlflow"
)(answering("cut"))


@fault(
    "mlflow-password", "MLflow refuses the password mid-search; it is corrected after the search", "mlflow"
)
def password(scene: Scene) -> None:
    gate = gate_of(scene)
    scene.environment = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": "wr0ng"}
    scene.start()
    scene.until_train()
    scene.strike("MLflow wants another password", lambda: setattr(gate, "wants_password", True))
    scene.recover()
    scene.end(0)
    assert gate.num_refused and "is away" in scene.last_words(), scene.last_words()
    scene.start()
    scene.end(2)
    assert "does not let in" in scene.last_words(), scene.last_words()
    assert "wr0ng" not in scene.last_words()
    scene.environment["MLFLOW_TRACKING_PASSWORD"] = PASSWORD
    scene.say("the password is corrected")
    scene.start()
    scene.end(0)
    gate.wants_password = False
