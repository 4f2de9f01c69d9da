"""MLflow is away, hangs, answers nonsense, or takes no password while a study searches."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaos.disturbed_study import DisturbedStudy
from chaos.faults import fault
from chaos.gate import PASSWORD, USER, Gate, State, mlflow_behind_gate
from chaos.home import LONG

AWAY_S = 150.0


def gate_of(disturbed: DisturbedStudy) -> Gate:
    """A server for this study."""
    gate = disturbed.stack.enter_context(mlflow_behind_gate(disturbed.folder))
    disturbed.uri = gate.uri
    return gate


def shut_then_open(
    disturbed: DisturbedStudy, shut: Callable[[], None], open_again: Callable[[], None]
) -> None:
    """Shut mid-search, which ends before MLflow is back; then the same command, which writes the rest."""
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb("MLflow is shut", shut)
    disturbed.recover()
    disturbed.end(0)
    open_again()
    disturbed.say("MLflow is open again")
    disturbed.start()
    disturbed.end(0)
    assert "is away" not in disturbed.last_output(), disturbed.last_output()


@fault("mlflow-down", "MLflow refuses connections until after the search", "mlflow")
def down(disturbed: DisturbedStudy) -> None:
    gate = gate_of(disturbed)
    shut_then_open(disturbed, gate.go_down, gate.come_back)


@fault("mlflow-minutes", "MLflow is down for minutes of the search", "mlflow", epochs=LONG)
def minutes(disturbed: DisturbedStudy) -> None:
    gate = gate_of(disturbed)
    disturbed.start()
    disturbed.until_train((0.05, 0.1))
    disturbed.disturb("MLflow is down", gate.go_down)
    disturbed.recover()
    time.sleep(max(0.0, AWAY_S - (time.monotonic() - disturbed.disturbed_at)))
    gate.come_back()
    disturbed.say("MLflow is back")
    disturbed.finish()


def answering(state: State) -> Callable[[DisturbedStudy], None]:
    def act(disturbed: DisturbedStudy) -> None:
        gate = gate_of(disturbed)
        shut_then_open(disturbed, lambda: gate.turn(state), lambda: gate.turn("open"))

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
def password(disturbed: DisturbedStudy) -> None:
    gate = gate_of(disturbed)
    disturbed.environment = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": "wr0ng"}
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb("MLflow wants another password", lambda: setattr(gate, "wants_password", True))
    disturbed.recover()
    disturbed.end(0)
    assert gate.num_refused and "is away" in disturbed.last_output(), disturbed.last_output()
    disturbed.start()
    disturbed.end(2)
    assert "denies access to" in disturbed.last_output(), disturbed.last_output()
    assert "wr0ng" not in disturbed.last_output()
    disturbed.environment["MLFLOW_TRACKING_PASSWORD"] = PASSWORD
    disturbed.say("the password is corrected")
    disturbed.start()
    disturbed.end(0)
    gate.wants_password = False
