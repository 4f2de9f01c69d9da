"""BENCHMARKS.md: what is claimed of speed, each figure a ratio taken side by side in one run, with what bounds it.

    make bench                                    # 20 to 25 minutes of two cores
    make bench-compare REV=HEAD~20                # ours there / ours here, the benchmarks of this revision
    python tests/benchmarks/bench.py --gpu        # with those that need a GPU
    python tests/benchmarks/bench.py --only score_speed shared_cpus --out /tmp/some.md

Each benchmark is a program of its own beside this file and says how it measures; here it runs with few rounds. One that
fails, or takes longer than --minutes, is said in the table, and exit code 1 follows.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rows import Row, load_rows, spread

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("torch", "ray", "optuna", "albumentations", "onnxruntime", "monai", "MedPy", "pysodmetrics")
HEADINGS = ("measured", "against", "ratio: median (min to max)", "ours", "the other", "unit", "bound by")


@dataclass(frozen=True)
class Benchmark:
    """A program and its options for a run of a few minutes."""

    name: str
    options: str = ""
    needs_gpu: bool = False

    def command(self, rows: Path) -> list[str]:
        return [
            sys.executable,
            str(HERE / f"{self.name}.py"),
            *shlex.split(self.options),
            "--rows",
            str(rows),
        ]


BENCHMARKS = (
    Benchmark("lane_overhead", "--widths 1 2 --rounds 2 --fits 1 --study-fits 20"),
    Benchmark("study_loop", "--configurations 6 --rounds 2"),
    Benchmark("start_and_end", "--rounds 2"),
    Benchmark("worker_memory"),
    Benchmark("shared_cpus", "--steps 5"),
    Benchmark("decision_threads"),
    Benchmark("feed_rate", "--pipelines standard --rounds 2 --cases 48 --decoding-only"),
    Benchmark("kept_memory", "--steps 2 --rounds 2"),
    Benchmark("network_cost", "unet unet_pp deeplabv3p_mobilenet --rounds 2 --library-only"),
    Benchmark("export_speed"),
    Benchmark("score_speed"),
    Benchmark("threshold_sweep", "--cases 40"),
    Benchmark("leak_scale", "--frames 250 1000"),
    Benchmark("channels_last", needs_gpu=True),
)


def run(benchmark: Benchmark, folder: Path, code: Path, minutes: float) -> list[Row] | str:
    """Its rows, with the package of `code`; or why there are none."""
    rows = folder / f"{benchmark.name}.json"
    rows.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])}
    log = folder / f"{benchmark.name}.log"
    with log.open("w") as output:
        program = subprocess.Popen(
            benchmark.command(rows),
            cwd=code,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = program.wait(timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)  # with the Ray that it has started
            program.wait()
            return f"took longer than {minutes:g} minutes"
    if status or not rows.is_file():
        return (log.read_text().strip().splitlines() or [f"exit code {status}"])[-1]
    return load_rows(rows)


def lines(found: dict[str, list[Row] | str]) -> Iterator[str]:
    """The table in Markdown, a row a figure."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield f"|{'---|' * len(HEADINGS)}"
    for name, rows in found.items():
        if isinstance(rows, str):
            yield f"| {name}.py | | not measured: {rows.replace('|', '/')} | | | | |"
            continue
        for row in rows:
            ratio = f"{spread(row.ratios)} times" if row.ratios else "–"
            cells = (
                row.what,
                row.against or "–",
                ratio,
                spread(row.ours),
                spread(row.theirs),
                row.unit,
                row.bound,
            )
            yield f"| {' | '.join(cells)} |"


def surroundings(load: float) -> str:
    known = []
    for package in PACKAGES:
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            known.append(f"{package} not installed")
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start"
    )
    return f"{machine}; Python {platform.python_version()}, {', '.join(known)}."


def report(found: dict[str, list[Row] | str], minutes: float, load: float) -> str:
    head = [
        "# Benchmarks",
        "",
        f"Written by `{shlex.join(['python', *sys.argv])}` on {time.strftime('%Y-%m-%d')} in {minutes:.0f} minutes.",
        surroundings(load),
        "A ratio says how many times as good ours is as the other, both measured in turn in one run; below 1, worse.",
        "Few rounds: a spread is the least and the greatest of them. What each does is said in its program in",
        "tests/benchmarks, which offers more rounds.",
        "",
    ]
    return "\n".join([*head, *lines(found)]) + "\n"


def compared(found: Sequence[tuple[list[Row], list[Row]]]) -> str:
    """Rows of both revisions: how many times as good this one is, and at least and at most by any two rounds.

    A figure that several rows share, each against another alternative, is there once.
    """
    table = ["| measured | this revision | the other | unit | times as good |", "|---|---|---|---|---|"]
    for here, there in found:
        old = {row.what: row for row in there}
        for row in {one.what: one for one in here}.values():
            other = old.get(row.what)
            if other is None:
                table.append(f"| {row.what} | {spread(row.ours)} | not measured | {row.unit} | – |")
                continue
            ratios = [a / b if row.is_rate else b / a for a in row.ours for b in other.ours]
            medians = statistics.median(row.ours), statistics.median(other.ours)
            ratio = medians[0] / medians[1] if row.is_rate else medians[1] / medians[0]
            range_of = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
            table.append(
                f"| {row.what} | {spread(row.ours)} | {spread(other.ours)} | {row.unit} | {ratio:.2f}{range_of} |"
            )
    return "\n".join(table)


def compare(revision: str, chosen: Sequence[Benchmark], folder: Path, minutes: float) -> int:
    """Each benchmark with the package here and there, one after the other."""
    there = folder / "other"
    subprocess.run(["git", "worktree", "remove", "--force", str(there)], cwd=ROOT, capture_output=True)
    subprocess.run(
        ["git", "worktree", "add", "--quiet", "--detach", str(there), revision], cwd=ROOT, check=True
    )
    pairs, failed = [], 0
    try:
        for benchmark in chosen:
            here, other = (run(benchmark, folder, code, minutes) for code in (ROOT, there))
            if isinstance(here, str) or isinstance(other, str):
                failed += 1
                print(f"{benchmark.name}: {here if isinstance(here, str) else other}", flush=True)
                continue
            pairs.append((here, other))
            print(f"{benchmark.name}: measured in both", file=sys.stderr, flush=True)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(there)], cwd=ROOT, check=True)
    print(compared(pairs))
    return int(failed > 0)


def is_commit(revision: str) -> bool:
    asked = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="All figures of speed, into BENCHMARKS.md.")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--gpu", action="store_true", help="with those that need a GPU")
    parser.add_argument("--compare", metavar="REV", help="print ratios to another revision instead")
    parser.add_argument("--minutes", type=float, default=8.0, help="the longest that one may take")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="for rows and logs")
    parser.add_argument("--out", type=Path, default=ROOT / "BENCHMARKS.md")
    options = parser.parse_args()
    if options.compare is not None and not is_commit(options.compare):
        parser.error(
            f"--compare {options.compare}: expected a commit of {ROOT}, as HEAD~20; `git log` lists them"
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = [
        benchmark
        for benchmark in BENCHMARKS
        if (benchmark.name in options.only if options.only else options.gpu or not benchmark.needs_gpu)
    ]
    if options.compare:
        return compare(options.compare, chosen, options.folder.resolve(), options.minutes)
    began, load, found = time.monotonic(), os.getloadavg()[0], {}
    for benchmark in chosen:
        rows = run(benchmark, options.folder.resolve(), ROOT, options.minutes)
        found[benchmark.name] = rows
        said = rows if isinstance(rows, str) else f"{len(rows)} rows"
        print(f"{(time.monotonic() - began) / 60:5.1f} min  {benchmark.name}: {said}", flush=True)
        options.out.write_text(report(found, (time.monotonic() - began) / 60, load), encoding="utf-8")
    return int(any(isinstance(rows, str) for rows in found.values()))


if __name__ == "__main__":
    sys.exit(main())
