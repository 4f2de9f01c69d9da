"""A command as a job: what goes to the cluster, what its server is asked, and what becomes of a broken connection."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from job_api import DONE, TOKEN, JobApi, serving
from ray._raylet import Config

from orchestrator.cli import main
from orchestrator.common.errors import BadMachine, MachineFault
from orchestrator.launch import submit as launch
from orchestrator.launch.job_server import job_server
from orchestrator.launch.submit import ClusterJob, Submission, refuse_size, submit

SPACE = """
network = "unet"
[search]
learning_rate = { log_uniform = [1e-3, 1e-2] }
[fixed]
base_channels = 4
[baseline]
learning_rate = 5e-3
"""
RUNNING = {**DONE, "status": "RUNNING", "driver_exit_code": None, "start_time": 1_790_000_000_000}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    for name in (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_JOB_HEADERS",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("ORCHESTRATOR_HOME", "ORCHESTRATOR_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    monkeypatch.setattr(launch, "AGAIN_S", 0.05)
    monkeypatch.setattr(launch, "POLL_S", 0.05)
    (tmp_path / "colon.toml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    Config.initialize("")  # Ray keeps what it read of the environment
    yield
    monkeypatch.undo()
    Config.initialize("")


@pytest.fixture
def api() -> Iterator[JobApi]:
    with serving(JobApi()) as served:
        yield served


@pytest.fixture
def run(capfd, monkeypatch, api) -> Run:
    """Run `orchestrator submit --address API ...`; its exit code, and what it printed."""

    def command(*words: str, address: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["orchestrator", "submit", "--address", address or api.url, *words])
        with pytest.raises(SystemExit) as end:
            main()
        told = capfd.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return command


SEARCH = ("--", "search", "colon.toml", "--data", "drawn", "--trials", "3")


def asked(api: JobApi) -> dict[str, Any]:
    (body,) = api.asked
    return body


def test_a_command_becomes_a_job_with_a_name_that_people_read_and_its_log_and_code_come_back(run, api):
    api.log = "study colon\nwon\n"
    code, out, _ = run(*SEARCH)
    assert code == 0 and out.endswith("study colon\nwon\n")
    assert re.fullmatch(r"colon-drawn-\d{8}-\d{6}", asked(api)["submission_id"])
    line = "exec python -m orchestrator search files/colon.toml --data drawn --trials 3"
    assert asked(api)["entrypoint"] == line and asked(api)["metadata"]["study"] == "colon-drawn"


def test_a_job_has_time_for_its_epochs_when_it_is_stopped(run, api):
    run(*SEARCH, "--home", "/shared")
    wait = asked(api)["runtime_env"]["env_vars"]
    assert wait == {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "900"}


def test_dashes_before_the_command_may_be_left_out(run, api):
    run(*SEARCH[1:])
    assert asked(api)["entrypoint"].endswith("search files/colon.toml --data drawn --trials 3")


@pytest.mark.parametrize("given", [2, 75, 130, -9])
def test_the_exit_code_is_that_of_the_command(run, api, given):
    api.jobs["x"] = {**DONE, "status": "FAILED", "driver_exit_code": given}
    assert run("--attach", "x")[0] == (given if given > 0 else 137)


def test_a_cluster_without_that_python_is_told_apart(run, api):
    api.ends = {"status": "FAILED", "driver_exit_code": 127}
    code, _, err = run("--python", "/opt/venv/bin/python", *SEARCH)
    assert code == 127 and "finds no /opt/venv/bin/python; set the Python of Ray there" in err
    assert asked(api)["entrypoint"].startswith("exec /opt/venv/bin/python -m orchestrator search")


def test_a_job_that_somebody_stopped_ends_as_by_ctrl_c(run, api):
    api.jobs["x"] = {**DONE, "status": "STOPPED", "driver_exit_code": None}
    assert run("--attach", "x")[0] == 130


def test_what_ray_could_not_run_is_said_in_rays_words(run, api):
    api.jobs["x"] = {
        **DONE,
        "status": "FAILED",
        "driver_exit_code": None,
        "message": "worker died.\nno space left",
    }
    code, _, err = run("--attach", "x")
    assert code == 2 and "error: x: Ray could not run it: no space left" in err


def test_a_log_that_breaks_off_is_read_on_where_it_broke(api):
    api.jobs["x"], api.breaks = dict(DONE), 2
    read: list[str] = []
    notes: list[str] = []
    assert ClusterJob(job_server(api.url), "x").follow(read.append, notes.append) == 0
    assert "".join(read) == api.log and len(notes) == 1


def test_who_leaves_a_log_that_goes_on_leaves_at_once(api):
    api.jobs["x"], api.more = dict(RUNNING), 60

    def leave(text: str) -> None:
        if "another" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ClusterJob(job_server(api.url), "x").follow(leave)
    assert api.more > 40


def test_patience_begins_anew_with_every_line_that_comes(api, monkeypatch):
    monkeypatch.setattr(launch, "PATIENCE_S", 0.2)
    api.log, api.breaks = "", 6
    api.jobs["x"] = dict(RUNNING)
    read: list[str] = []

    def note(line: str) -> None:
        api.log += "more\n"  # while nobody listens
        time.sleep(0.1)
        if len(api.log) > 25:
            api.jobs["x"] |= DONE

    api.log = "more\nmore\n"
    assert ClusterJob(job_server(api.url), "x").follow(read.append, note) == 0 and "".join(read) == api.log


def test_a_log_that_is_gone_does_not_hide_how_the_job_ended(api, monkeypatch):
    monkeypatch.setattr(launch, "LOG_PATIENCE_S", 0.1)
    api.jobs["x"], api.breaks = {**DONE, "status": "FAILED", "driver_exit_code": 2}, 10_000
    notes: list[str] = []
    assert ClusterJob(job_server(api.url), "x").follow(lambda text: None, notes.append) == 2
    assert "cannot be read" in notes[-1]


def test_a_cluster_that_does_not_come_back_is_waited_for_and_then_given_up(monkeypatch):
    monkeypatch.setattr(launch, "PATIENCE_S", 0.3)
    with serving(JobApi()) as api:
        api.jobs["x"] = dict(RUNNING)
        job = ClusterJob(job_server(api.url), "x")
        job.info()
    started = time.monotonic()
    with pytest.raises(MachineFault):
        job.follow(lambda text: None)
    assert time.monotonic() - started < 30


def test_a_job_that_the_cluster_forgot_is_no_riddle(api):
    job = ClusterJob(job_server(api.url), "x")
    with pytest.raises(
        BadMachine, match=r"x: the cluster does not know this job: was its head node restarted\?"
    ):
        job.follow(lambda text: None)


def test_the_same_search_is_refused_while_it_runs_whatever_its_budget_is(run, api):
    run(*SEARCH, "--home", "/shared")
    (id,) = api.jobs
    api.jobs[id] |= RUNNING
    code, _, err = run(*SEARCH[:-1], "9", "--home", "/shared")
    assert code == 2 and len(api.jobs) == 1
    assert f"error: colon-drawn: is running already, as job {id}" in err and f"--attach {id}" in err
    assert run(*SEARCH, "--home", "/shared", "--seed", "1")[0] == 0  # another study
    api.jobs[id] |= DONE
    time.sleep(1)  # ids are made of seconds
    assert run(*SEARCH, "--home", "/shared")[0] == 0


def test_two_jobs_of_one_second_have_two_names():
    taken: set[str] = set()
    for _ in range(3):
        taken.add(launch._new_id("a study/of ours", taken))
    assert len(taken) == 3 and all(re.fullmatch(r"a-study-of-ours-\d{8}-\d{6}(-\d)?", id) for id in taken)


def test_detached_it_says_how_to_go_on(run, api):
    code, _, err = run("--detach", *SEARCH)
    (id,) = api.jobs
    assert code == 0 and f"--address {api.url} --attach {id}`" in err and f"--stop {id}`" in err


def test_stop_waits_for_the_end_and_says_it(run, api):
    api.jobs["x"] = dict(RUNNING)
    code, _, err = run("--stop", "x")
    assert code == 0 and "job x: stopped" in err


def test_a_job_that_is_not_there_is_refused_with_those_that_are(run, api):
    api.jobs["x"] = dict(RUNNING)
    for what in ("--stop", "--attach"):
        code, _, err = run(what, "y")
        assert code == 2 and "error: y: no such job of ours on this cluster; there are: x" in err


def test_our_jobs_are_listed_and_nobody_elses(run, api):
    api.jobs["x"] = {**RUNNING, "metadata": {"orchestrator": "1", "study": "colon", "key": "ab"}}
    api.jobs["theirs"] = {**RUNNING, "entrypoint": "python train.py"}
    code, out, _ = run("--list", "--json")
    (row,) = json.loads(out)
    assert code == 0 and (row["id"], row["study"], row["state"]) == ("x", "colon", "running")
    assert row["since"] == "2026-09-21T14:13:20+00:00" and row["until"] is None
    assert "x" in run("--list")[1] and "theirs" not in run("--list")[1]


def test_a_list_without_jobs_is_empty_json(run):
    assert json.loads(run("--list", "--json")[1]) == []


def at_a_terminal(api: JobApi, *keys: str) -> tuple[int, str]:
    """Follow job x as somebody does who types these keys, each when the last line has come."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "orchestrator", "submit", "--address", api.url, "--attach", "x"]
    printed = b""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        for key, after in zip(keys, (b"three", b"y/N"), strict=False):
            while after not in printed:
                printed += os.read(ours, 1000)
            if key == "ctrl-c":
                process.send_signal(signal.SIGINT)
            else:
                os.write(ours, key.encode())
        with suppress(OSError):  # the other side is closed
            while new := os.read(ours, 1000):
                printed += new
    os.close(ours)
    return process.returncode, printed.decode()


@pytest.mark.parametrize(("answer", "state"), [("y\n", "STOPPED"), ("\n", "RUNNING")])
def test_ctrl_c_at_a_terminal_asks_what_is_to_become_of_the_job(api, answer, state):
    api.jobs["x"] = dict(RUNNING)
    code, printed = at_a_terminal(api, "ctrl-c", answer)
    assert api.jobs["x"]["status"] == state
    assert code == 130 and "Stop the job as well?" in printed and "Traceback" not in printed
    assert "--attach x` follows it" in printed and ("job x: stopped" in printed) == (state == "STOPPED")


# What travels.


def test_a_space_a_split_and_an_exported_model_travel_and_other_paths_are_the_clusters(run, api, tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "colon.toml").write_text("{}")  # a split, whatever it is called
    run(*SEARCH, "--splits", "split/colon.toml", "--home", "store", "--cache", "/fast")
    words = asked(api)["entrypoint"].split()
    assert "files/1/colon.toml" in words and f"{tmp_path}/store" in words and "/fast" in words
    (tmp_path / "models").mkdir()  # a bundle of an unlucky name
    api.asked.clear()
    run("--", "evaluate", "models", "--data", "drawn", "--out", "report")
    assert asked(api)["entrypoint"].endswith(f"evaluate files/models --data drawn --out {tmp_path}/report")


def test_what_is_not_here_is_the_clusters(run, api):
    run("--", "evaluate", "/shared/champion", "--data", "drawn")
    assert asked(api)["entrypoint"].endswith("evaluate /shared/champion --data drawn")


def test_the_folder_of_a_job_holds_this_package_and_what_is_named_and_no_more(tmp_path):
    with launch._packed({"files/colon.toml": tmp_path / "colon.toml"}) as folder:
        assert {path.name for path in folder.iterdir()} == {"orchestrator", "files"}
        assert (folder / "files" / "colon.toml").read_text() == SPACE
        assert (folder / "orchestrator" / "__main__.py").is_file() and not list(folder.rglob("__pycache__"))
        assert sum(file.stat().st_size for file in folder.rglob("*")) < launch.OWN_BYTES


def test_files_of_more_than_ray_takes_are_refused_before_anything_is_sent(run, api, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "private", lambda name: launch.OWN_BYTES + 1000)
    (tmp_path / "champion").mkdir()
    (tmp_path / "champion" / "model.safetensors").write_bytes(bytes(2000))
    code, _, err = run("--", "evaluate", "champion", "--data", "drawn")
    assert code == 2 and not api.asked
    assert "champion: a job can upload at most 8.4 MB, found 2.0 kB of files that the command names" in err
    refuse_size({"files/colon.toml": tmp_path / "colon.toml"})


@pytest.mark.parametrize("budget", [(), ("--hours", "0"), ("--gpu-hours", "inf")])
def test_a_search_without_a_budget_is_refused_before_anything_is_sent(run, api, budget):
    code, _, err = run("--", "search", "colon.toml", "--data", "drawn", *budget)
    assert code == 2 and not api.asked
    assert ("--hours" if budget == () else f"{budget[0]}: expected a finite number above 0") in err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((*SEARCH, "--tracking-uri", "http://me:pw5@host:5000"), "--tracking-uri: contains a password"),
        (
            ("--env", "MLFLOW_TRACKING_PASSWORD=pw5", *SEARCH),
            "--env: the cluster would show MLFLOW_TRACKING_PASSWORD",
        ),
        (("--env", "PROXY=http://me:pw5@host", *SEARCH), "--env: the cluster would show PROXY"),
        (("--env", "NOWHERE_SET", *SEARCH), "--env: NOWHERE_SET is not set here"),
        (("--env", "=pw5", *SEARCH), "--env: expected NAME=VALUE"),
        (("--env", "A B=pw5", *SEARCH), "found 'A B'"),
    ],
)
def test_what_is_secret_is_not_sent(run, api, words, what):
    code, out, err = run(*words)
    assert code == 2 and what in err and not api.asked and "pw5" not in out + err


def test_a_password_in_the_environment_is_not_sent_either(run, api, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw5@host:5000")
    code, out, err = run(*SEARCH)
    assert code == 2 and not api.asked and "pw5" not in out + err


def test_variables_that_are_named_travel(run, api, monkeypatch):
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    run("--env", "NCCL_DEBUG", "--env", "OMP_NUM_THREADS=2", *SEARCH)
    told = asked(api)["runtime_env"]["env_vars"]
    assert (told["NCCL_DEBUG"], told["OMP_NUM_THREADS"]) == ("INFO", "2")


# Mistakes: seconds, a sentence, exit code 2.


def test_mistakes_of_the_command_of_the_space_and_of_the_address_are_reported_here_and_at_once(
    run, api, tmp_path
):
    (tmp_path / "colon.toml").write_text(SPACE.replace("unet", "unte"))
    code, _, err = run(*SEARCH, address="http://127.0.0.1:9")
    assert code == 2 and "no network is named 'unte'" in err and "Connection refused" in err
    for words in (
        ("--", "serach", "colon.toml"),
        ("--", "search", "colon.toml", "--data", "x", "--trails", "3"),
    ):
        assert run(*words)[0] == 2
    for words in (("--", "submit", "--list"), (), ("--list", "--stop", "x"), ("--", "data")):
        assert run(*words)[0] == 2
    assert not api.asked


def test_an_address_of_its_own_behind_the_dashes_is_refused(run, api):
    for other in ("head:6379", "local", "ray://head:10001"):
        code, _, err = run(*SEARCH, "--address", other)
        assert code == 2 and f"remove --address {other} after --" in err and not api.asked


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "127.0.0.1:9", "ray://127.0.0.1:9", "http://nobody.invalid"]
)
def test_an_address_where_nobody_takes_jobs_is_refused(run, address):
    code, _, err = run("--list", address=address)
    assert code == 2 and f"error: --address: no Ray cluster accepts jobs at {address}: " in err


NOT_STARTED = "Starting Ray client server failed. See ray_client_server_23000.err"


@pytest.mark.parametrize(
    ("failure", "said", "asked"),
    [(NOT_STARTED, "asked 4 times", 4), ("ray client connection timeout", "set RAY_AUTH_MODE=token", 1)],
)
def test_a_head_that_starts_no_server_for_a_client_is_asked_again(run, monkeypatch, failure, said, asked):
    addresses = []

    def refuse(address: str) -> str:
        addresses.append(address)
        raise ConnectionError(failure)

    monkeypatch.setattr("orchestrator.launch.job_server.ray_client_address_to_api_server_url", refuse)
    with socket.create_server(("127.0.0.1", 0)) as open_port:
        code, _, err = run("--list", address=f"ray://127.0.0.1:{open_port.getsockname()[1]}")
    assert code == 2 and said in err and failure in err and len(addresses) == asked


def test_auto_without_a_ray_says_what_to_name(run):
    code, _, err = run("--list", address="auto")
    assert code == 2 and "no Ray was started here; set a cluster, such as --address http://HOST:8265" in err


def test_an_address_with_a_password_is_refused_without_showing_it(run):
    code, _, err = run("--list", address="http://me:pw5@host:8265")
    assert code == 2 and "one with a user or password" in err and "pw5" not in err


def test_a_server_that_is_no_job_server_is_refused(run, monkeypatch):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setattr("orchestrator.launch.job_server.ANSWER_S", 0.3)
        code, _, err = run("--list", address=f"http://127.0.0.1:{deaf.getsockname()[1]}")
    assert code == 2 and "does not answer in time" in err


def test_a_bare_host_and_port_of_a_dashboard_will_do(run, api):
    api.jobs["x"] = dict(RUNNING)
    assert json.loads(run("--list", "--json", address=api.url.removeprefix("http://"))[1])[0]["id"] == "x"


def test_the_address_that_is_named_goes_before_those_of_the_environment(run, api, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    assert run("--list", "--json")[0] == 0
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", api.url)
    assert run("--list", "--json", address="auto")[0] == 0


def test_a_missing_token_and_a_wrong_one_are_a_sentence_each(run, api, monkeypatch):
    api.wants_token = True
    code, _, err = run(*SEARCH)
    assert code == 2 and f"the cluster at {api.url} requires a token: set RAY_AUTH_MODE=token, and" in err
    monkeypatch.setenv("RAY_JOB_HEADERS", json.dumps({"Authorization": "Bearer wrong"}))
    code, _, err = run(*SEARCH)
    assert code == 2 and "requires another token than that of" in err and len(err.splitlines()) < 4
    monkeypatch.setenv("RAY_JOB_HEADERS", json.dumps({"Authorization": f"Bearer {TOKEN}"}))
    assert run(*SEARCH)[0] == 0


def test_a_submission_is_found_again_by_what_it_is(tmp_path):
    first, again = Submission(("status",)), Submission(("status",), env={"A": "1"})
    assert first.key == again.key != Submission(("status", "--json")).key


def test_submitting_twice_at_once_by_hand_is_refused_too(api):
    server = job_server(api.url)
    submit(server, Submission(("status",)))
    (id,) = api.jobs
    api.jobs[id] |= RUNNING
    with pytest.raises(BadMachine, match=f"is running already, as job {id}"):
        submit(server, Submission(("status",)))
