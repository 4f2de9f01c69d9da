"""Private names and members of Ray, Optuna, MLflow and their kin, in two tables, each with the reason for its use.

They are looked up when they are used, so a release that moves one breaks the command that needs it and no other, with a
message that names the release. `make test-bounds` looks for all of them in the oldest and newest releases allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from orchestrator.common.errors import BadMachine

NAMES: Mapping[str, str] = {
    # Placement groups with their creators, and the actors of a job: the public tables omit both.
    "ray_state": "ray._private.state:state",
    "PlacementGroupID": "ray._raylet:PlacementGroupID",
    "PlacementGroupTableData": "ray.core.generated.gcs_pb2:PlacementGroupTableData",
    # Kills an actor by its id: Train does not expose the handle of its controller.
    "ray_worker": "ray._private.worker:global_worker",
    # The address recorded by `ray start`, as the command line of Ray reads it.
    "find_bootstrap_address": "ray._private.services:find_bootstrap_address",
    "get_ray_address_file": "ray._private.utils:get_ray_address_file",
    # Has a local Ray listen on the loopback interface; reads RAY_AUTH_MODE again after Ray was imported.
    "ray_constants": "ray._private.ray_constants:",
    "RayConfig": "ray._raylet:Config",
    # Ray takes SIGTERM when it starts; its function is replaced meanwhile.
    "ray_utils": "ray._private.utils:",
    "set_sigterm_handler": "ray._private.utils:set_sigterm_handler",
    # Environment variables that actors of Ray Train inherit.
    "train_constants": "ray.train.v2._internal.constants:",
    # Starts a process of Ray Data for every lane, which reads its images without it.
    "DatasetsCallback": "ray.train.v2._internal.callbacks.datasets:DatasetsCallback",
    # What a job may upload.
    "GCS_STORAGE_MAX_SIZE": "ray._private.runtime_env.packaging:GCS_STORAGE_MAX_SIZE",
    # Operations in a journal file: a trial that failed because of its machine is opened again.
    "JournalOperation": "optuna.storages.journal._storage:JournalOperation",
    # User, password or token of a tracking server, as MLflow's own client finds them.
    "get_default_host_creds": "mlflow.tracking._tracking_service.utils:get_default_host_creds",
    # The script of shell completion; the public way, --show-completion, prints that of the shell it finds itself in.
    "get_completion_script": "typer._completion_shared:get_completion_script",
}

# Private attribute of another package's objects -> that package.
MEMBERS: Mapping[str, str] = {
    # The storage of a study, and numbers in it: the public way looks up a study's name each time.
    "_storage": "optuna",
    "_study_id": "optuna",
    "_trial_id": "optuna",
    # A request to the job server with the client's token and timeouts of our own; GlobalState's table with creators.
    "_do_request": "ray",
    # What a trainer of Train V2 starts in addition to its workers.
    "_create_default_callbacks": "ray",
    "_connect_and_get_accessor": "ray",
    # Completion is added to options after they were declared, from one table.
    "_custom_shell_complete": "typer",
    # How often a tensor was changed in place; autograd compares the same number.
    "_version": "torch",
}


def private(name: str) -> Any:
    """The object, or module, of an entry of NAMES. Raises `BadMachine` if the installed release has none."""
    module, _, attribute = NAMES[name].partition(":")
    try:
        found = import_module(module)
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError) as missing:
        package = module.partition(".")[0]
        raise _moved(package, NAMES[name].strip(":")) from missing


def member(owner: object, name: str) -> Any:
    """Value of an attribute in `MEMBERS`. Raises `BadMachine` if the installed release has no such attribute."""
    package = MEMBERS[name]
    try:
        return getattr(owner, name)
    except AttributeError as missing:
        raise _moved(package, f"{type(owner).__name__}.{name}") from missing


def set_member(owner: object, name: str, value: Any) -> None:
    """Replace a private attribute of an object. Raises `BadMachine` if it has none of that name."""
    member(owner, name)
    setattr(owner, name, value)


def _moved(package: str, what: str) -> BadMachine:
    return BadMachine(
        package,
        f"{package} {_version(package)} has no {what}, which is needed here; install {_requirement(package)}, or a "
        "newer release of this program",
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _requirement(package: str) -> str:
    """This program's requirement of a package, such as ray[default]>=2.55,<3."""
    try:
        wanted = requires("polyp-orchestrator") or []
    except PackageNotFoundError:
        wanted = []
    own = (one for one in wanted if one.startswith(package) and ";" not in one)
    return next(own, f"the release of {package} that pyproject.toml names")
