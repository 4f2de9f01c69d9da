"""A Slurm of two nodes on this machine: its daemons run as whoever starts the test, on ports of their own.

Debian's packages: slurmctld slurmd slurm-client munge. Nodes share the disk and the address; each has GPUs that are
empty files, and processes that can be told from the other's, so that it can fail on its own.
"""

from __future__ import annotations

import getpass
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from chaos.nodes import kill, marked
from shell import SETTINGS, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
MARK = "SLURM_SITE_NODE"  # in the environment of a node's daemon and of who watches its steps
LOST_S = 10  # until a node that does not answer is down
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=30
SlurmdTimeout={lost_s}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"needs {', '.join(missing)} (make test-slurm installs Slurm)" if missing else None


class Site:
    """The daemons, for as long as this context is, and what users do with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        base = {
            name: value for name, value in os.environ.items() if not name.startswith((*SETTINGS, "SLURM_"))
        }
        self.environment = base | {
            "PATH": f"{base['PATH']}:/usr/sbin",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }

    def __enter__(self) -> Site:
        for name in ("state", *NODES):
            (self.folder / name).mkdir(parents=True)
        gpus = []
        for node in NODES:
            gpus.append(f"NodeName={node} Name=gpu File={self.folder}/{node}-gpu[0-1]\n")
            for number in range(2):
                (self.folder / f"{node}-gpu{number}").touch()
        (self.folder / "gres.conf").write_text("".join(gpus))
        values = {
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "ports": free_ports(3),
        }
        (self.folder / "slurm.conf").write_text(CONFIG.format(folder=self.folder, lost_s=LOST_S, **values))
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        files = [
            f"--{name}={self.folder}/munge.{name.split('-')[0]}"
            for name in ("socket", "key-file", "pid-file")
        ]
        logs = [f"--{name}-file={self.folder}/munge.{name}" for name in ("log", "seed")]
        self.run("munged", "--force", *files, *logs)
        self.run("slurmctld")
        for node in NODES:
            self.boot(node)
        wait_until(lambda: self.run("sinfo", "-h", "-o", "%T").split() == ["idle"], self.log, 60)
        return self

    def __exit__(self, *_: object) -> None:
        """End the jobs, then the daemons."""
        for job in self.run("squeue", "-h", "-o", "%i").split():
            self.run("scancel", job)
        wait_until(lambda: not self.run("squeue", "-h"), self.log, 90)
        for node in NODES:
            self.fail(node)
        kill([int((self.folder / name).read_text()) for name in ("slurmctld.pid", "munge.pid")])

    # --- the machine room

    def boot(self, node: str) -> None:
        """Switch it on, unless it is."""
        if not marked(f"{MARK}={self.folder}/{node}"):
            self.run("slurmd", "-N", node, environment={MARK: f"{self.folder}/{node}"})

    def fail(self, node: str) -> None:
        """As if its power were cut: everything that runs there is gone at once."""
        conf = f"SLURM_CONF={self.folder}/slurm.conf"
        on_node = set(marked(f"SLURMD_NODENAME={node}")) & set(marked(conf))
        kill([*marked(f"{MARK}={self.folder}/{node}"), *on_node])

    # --- users

    def run(self, *words: str, environment: dict[str, str] | None = None) -> str:
        """A command of Slurm; what it printed. AssertionError if it fails."""
        done = subprocess.run(
            words, env=self.environment | (environment or {}), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(
        self, script: Path, log: Path, *words: str, options: tuple[str, ...] = (), **environment: str
    ) -> str:
        """The number of the new job."""
        where = ("--parsable", f"--output={log}", f"--chdir={log.parent}")
        return self.run("sbatch", *where, *options, str(script), *words, environment=environment).strip()

    def shown(self, job: str, name: str) -> str:
        """What `scontrol show job` says, such as JobState or Restarts."""
        words = self.run("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in words if word.startswith(f"{name}="))

    def state(self, job: str) -> str:
        return self.shown(job, "JobState")

    def release(self, job: str) -> None:
        """Slurm holds a job for two minutes after it was queued again; nobody has time for that here."""
        wait_until(lambda: not self.run("squeue", "-h", "-t", "completing", "-j", job), self.log, 120)
        time.sleep(2)  # its nodes take no job whose credential they revoked within the same second
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def processes(self, job: str) -> list[int]:
        conf = f"SLURM_CONF={self.folder}/slurm.conf"
        return sorted(set(marked(f"SLURM_JOB_ID={job}")) & set(marked(conf)))

    def log(self) -> str:
        return "\n".join((self.folder / "slurmctld.log").read_text().splitlines()[-20:])


def free_ports(count: int) -> list[int]:
    """Ports that are free, and that neither the kernel nor Ray gives to anybody by itself."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports
