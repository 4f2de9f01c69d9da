"""The packages of this environment against the known vulnerabilities of pip-audit's database.

    python tests/support/audit.py        # make audit

Exit code 0: all were looked up, and none has a known vulnerability; 1: some has; 3: some could not be looked up, of
which nothing is known, though pip-audit itself then says "No known vulnerabilities found".
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

OURS = "polyp-orchestrator"  # on no index
FOUND, UNKNOWN = 1, 3
SHOWN = 20


def verdict(packages: list[dict[str, Any]]) -> tuple[int, str]:
    """The exit code, and what to say of a report of pip-audit."""
    packages = [package for package in packages if package["name"] != OURS]
    unknown = sorted(package["name"] for package in packages if "skip_reason" in package)
    bad = [package for package in packages if package.get("vulns")]
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no release'}"
        for package in bad
        for flaw in package["vulns"]
    ]
    if unknown:
        more = ", ..." if len(unknown) > SHOWN else ""
        lines.append(
            f"NOT AUDITED: {len(unknown)} of {len(packages)} packages: {', '.join(unknown[:SHOWN])}{more}"
        )
    lines.append(
        f"{len(packages) - len(unknown)} of {len(packages)} packages looked up, {len(bad)} with known flaws"
    )
    return FOUND if bad else UNKNOWN if unknown or not packages else 0, "\n".join(lines)


def main() -> int:
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "--skip-editable",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"NOT AUDITED: no database could be reached\n{done.stderr.strip()[-1000:]}")
        return UNKNOWN
    code, lines = verdict(packages)
    print(lines)
    return code


if __name__ == "__main__":
    sys.exit(main())
