"""cluster/ray-cluster.yaml for real: `ray up` by sshd on two loopback addresses, a search as a job, `ray down`.

All in namespaces of its own, so that ports, processes and the home of the user are those of the test: `ray down` stops
every Ray that it sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import ROOT
from tiny_space import tiny_space

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.launch.render import render
from orchestrator.search.store.study_store import StudyStore

pytestmark = pytest.mark.services
BIN = Path(sys.executable).parent
NEEDED = ("sshd", "ssh", "rsync", "ip", "unshare", "pkill")
HEAD, WORKER = "127.0.0.1", "127.0.0.2"
SPACE = tiny_space(epochs=1)
SSHD = """
ListenAddress 127.0.0.1
ListenAddress 127.0.0.2
HostKey {folder}/hostkey
PidFile none
UsePAM no
PasswordAuthentication no
StrictModes no
"""
# Run as process 1 of its namespaces: when it ends, so does everything.
PREPARE = """
ip link set lo up
mkdir -p /run/sshd {home}/.ssh
sed "s#^root:[^:]*:0:0:[^:]*:[^:]*:#root:x:0:0:root:{home}:#" /etc/passwd >{folder}/passwd
mount --bind {folder}/passwd /etc/passwd
export HOME={home} PATH={bin}:$PATH PYTHONPATH={root}
ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -f {folder}/hostkey
cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys
echo 'export PYTHONPATH={root} PATH={bin}:$PATH' >~/.bashrc
"$(command -v sshd || echo /usr/sbin/sshd)" -f {folder}/sshd_config
cd {folder}
"""
NODES = """
ray exec ray-cluster.yaml 'RAY_AUTH_MODE=token {bin}/python -c "
import ray, time
ray.init(\\"{head}:6379\\", log_to_driver=False)
until = time.monotonic() + 240
alive = lambda: sorted(n[\\"NodeManagerAddress\\"] for n in ray.nodes() if n[\\"Alive\\"])
while len(alive()) < 2 and time.monotonic() < until:
    time.sleep(1)
print(\\"nodes\\", *alive())"'
"""


def commands(config: str, *subjects: str) -> list[str]:
    """Commands of the header that hold these words, in their order."""
    lines = [
        re.sub(r"^#\s*(Launch:|Watch:|Stop:)?\s*", "", line)
        for line in config.splitlines()
        if line[:1] == "#"
    ]
    return [next(line for line in lines if subject in line) for subject in subjects]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    missing = [name for name in NEEDED if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (make test-services)")
    if subprocess.run(
        ["unshare", "--pid", "--net", "--mount-proc", "--fork", "true"], capture_output=True
    ).returncode:
        pytest.skip("needs the right to make namespaces")
    with tempfile.TemporaryDirectory(prefix="ru", ignore_cleanup_errors=True) as name:
        made = Path(name)
        draw_dataset(made / "frames", num_cases=24, size=32)
        add_dataset(made / "a home", "drawn", made / "frames", allow_empty=True)
        (made / "space.toml").write_text(SPACE)
        (made / "sshd_config").write_text(SSHD.format(folder=made))
        yield made


def test_ray_up_starts_all_nodes_a_job_searches_and_ray_down_ends_the_head(folder: Path):
    words = (
        "space.toml",
        "--data",
        "drawn",
        "--trials",
        "1",
        "--rescore",
        "0",
        "--no-near-duplicates",
        "--splits",
        "k-fold:2",
    )
    name = f"ru{os.getpid()}"
    values = {"head": HEAD, "workers": (WORKER,), "user": "root", "folder": str(folder), "venv": sys.prefix}
    config = render(
        "ray", {**values, "name": name, "home": f"{folder}/a home", "search": (*words, "--study", "one")}
    )
    # What the second node ends of an earlier start would here be the head, which is on the same machine.
    head, worker = config.split("worker_start_ray_commands:")
    worker = worker.replace("pkill ", "true ").replace("pgrep ", "false ")
    (folder / "ray-cluster.yaml").write_text(f"{head}worker_start_ray_commands:{worker}")
    token, up, submit, follow, down = commands(
        config, "--generate", "ray up --yes", "job submit", "job logs --follow", "ray down"
    )
    names = {"folder": folder, "home": folder / "user", "bin": BIN, "root": ROOT, "head": HEAD}
    script = [
        PREPARE.format(**names),
        token,
        up,
        NODES.format(**names),
        submit,
        follow,
        up,
        NODES.format(**names),
    ]
    script += [down, "echo left: $(pgrep -c gcs_server)"]
    inside = [
        "unshare",
        "--pid",
        "--net",
        "--mount-proc",
        "--fork",
        "--kill-child",
        "bash",
        "-ec",
        "\n".join(script),
    ]
    try:
        done = subprocess.run(inside, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    finally:
        shutil.rmtree(f"/tmp/ray-{name}", ignore_errors=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"nodes {HEAD} {WORKER}") == 2, done.stdout + done.stderr
    assert f"Job '{name}-1' succeeded" in done.stdout, done.stdout
    assert StudyStore(folder / "a home", "one").champion() is not None
    assert "left: 0" in done.stdout
