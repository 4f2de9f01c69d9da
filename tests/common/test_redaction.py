"""Passwords and tokens in URLs are nowhere: not on screen, not in a file, not with a job."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from formula import formula_study
from in_mlflow import sink_to
from job_api import JobApi, serving
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.common.errors import BadMachine, BadStudy, Several
from orchestrator.common.redaction import has_secret, without_secrets
from orchestrator.ray_cluster.machine import Machine
from orchestrator.results.mlflow.client import check_uri, with_credentials_apart
from orchestrator.search.store.optuna_storage import kept_url
from orchestrator.study.run import begin

SECRET = "s3cr3t"
SPACE = 'network = "unet"\n[search]\nlearning_rate = { log_uniform = [1e-3, 1e-2] }\n[baseline]\nlearning_rate = 5e-3\n'


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"http://me:{SECRET}@host:5000/a", "http://me:***@host:5000/a"),
        (f"HTTPS://{SECRET}@host", "HTTPS://***@host"),
        (f"http://me:{SECRET}/@?#x@host/a", "http://me:***@host/a"),
        (f"postgresql+psycopg://me:{SECRET}@host/db", "postgresql+psycopg://me:***@host/db"),
        (f"mysql://me@host/db?passwd={SECRET}&a=1", "mysql://me@host/db?passwd=***&a=1"),
        (
            f"https://host/?x=1&access_token={SECRET}#sig={SECRET}",
            "https://host/?x=1&access_token=***#sig=***",
        ),
        (f"exceeded with url: /?token={SECRET}/api&a=1", "exceeded with url: /?token=***&a=1"),
        (f"databricks://me:{SECRET}@host", "databricks://me:***@host"),
        (
            f"ray://me:{SECRET}@host:10001 and http://a:{SECRET}@b",
            "ray://me:***@host:10001 and http://a:***@b",
        ),
    ],
)
def test_what_lets_somebody_in_is_hidden_and_the_rest_of_a_url_is_not(url: str, shown: str):
    assert without_secrets(f"at '{url}' now") == f"at '{shown}' now" and has_secret(url)


def test_a_password_before_a_host_without_a_scheme_is_hidden_and_never_given_to_ray():
    assert without_secrets(f"no cluster at me:{SECRET}@10.0.0.1:6379") == "no cluster at me:***@10.0.0.1:6379"
    for address in (f"me:{SECRET}@10.0.0.1:6379", f"ray://me:{SECRET}@10.0.0.1:10001"):
        with pytest.raises(BadMachine, match="RAY_AUTH_TOKEN") as refused:
            Machine(address)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a?b=1",
        "postgresql://me@host/db",
        "sqlite:////home/me@work:1/mlflow.db",
        "models:/colon@champion",
        "a mail to me@host, at 12:30",
        "at 12:30 models:/colon@champion, mailto a@b",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str):
    assert without_secrets(text) == text and not has_secret(text)


def test_no_message_of_ours_holds_one():
    with pytest.raises(BadMachine) as refused:
        check_uri(f"htp://me:{SECRET}@host")
    with pytest.raises(BadMachine) as stored:
        kept_url(f"postgresql://host/db?sslpassword={SECRET}")
    several = Several([refused.value, stored.value, BadStudy(f"http://me:{SECRET}@h", "is no study")])
    assert SECRET not in f"{several} {several!r} {several.each}"


def test_the_password_of_a_web_address_goes_where_mlflow_looks_for_it(monkeypatch: pytest.MonkeyPatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert with_credentials_apart(f"http://me:{SECRET}%40@host:5000/a") == "http://host:5000/a"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == f"{SECRET}@"
    assert with_credentials_apart("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_a_server_that_is_away_is_named_without_its_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    uri = f"http://me:{SECRET}@127.0.0.1:1"
    study = formula_study(tmp_path, num_trials=1)
    begin(study)
    with caplog.at_level(logging.WARNING), sink_to(study.store, uri):
        pass
    assert (
        "MLflow at http://me:***@127.0.0.1:1 is away" in caplog.text and "it is all on record" in caplog.text
    )
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert files and SECRET not in caplog.text and not any(SECRET.encode() in data for data in files)


def test_a_job_never_carries_a_password_and_the_way_out_is_named(tmp_path: Path):
    (tmp_path / "a.toml").write_text(SPACE)
    uri = f"http://me:{SECRET}@host:5000"
    with serving(JobApi()) as api:
        words = ["search", str(tmp_path / "a.toml"), "--data", "x", "--trials", "1", "--address", api.url]
        told = CliRunner().invoke(cli.app, words, env={"MLFLOW_TRACKING_URI": uri})
        assert isinstance(told.exception, BadMachine) and "MLFLOW_TRACKING_PASSWORD" in str(told.exception)
        assert SECRET not in f"{told.output} {told.exception}" and api.asked == []
        CliRunner().invoke(cli.app, words, env={"MLFLOW_TRACKING_URI": "http://host:5000"})
        assert api.asked[0]["entrypoint"].endswith("--tracking-uri http://host:5000")


def test_the_traceback_of_a_bug_holds_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken() -> None:
        raise RuntimeError(json.dumps({"uri": f"http://me:{SECRET}@host"}))

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr().err
    assert ended.value.code == 1 and "Traceback" in told and "in broken" in told and SECRET not in told


def test_a_password_on_the_command_line_is_called_what_it_is_and_not_repeated(tmp_path: Path):
    words = ["best", "none", "--home", str(tmp_path), "--tracking-uri", f"http://me:{SECRET}@host"]
    told = CliRunner().invoke(cli.app, words)
    assert "MLFLOW_TRACKING_PASSWORD" in told.stderr and SECRET not in told.output
    told = CliRunner().invoke(cli.app, words[:-2], env={"MLFLOW_TRACKING_URI": words[-1]})
    assert "MLFLOW_TRACKING_PASSWORD" not in told.stderr and SECRET not in told.output
