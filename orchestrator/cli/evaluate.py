"""`orchestrator evaluate` scores an exported model on a dataset; `orchestrator compare` says which of two is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Data, Home, Metric
from orchestrator.cli.screen import bar, err, out, print_json


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")],
    data: Data,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for scores.csv and worst.png.")
    ] = None,
    paper_score: Annotated[
        list[str] | None,
        typer.Option(help="A paper's own score as well, such as dice_pranet; a wrong name lists all."),
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="Images on the sheet of the worst cases.")] = 20,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Score an exported model on datasets: by image, center and polyp size, the worst cases first.

    Of the datasets it was trained on, only the hold-out cases are scored.
    """
    from orchestrator.data.cases import load_datasets
    from orchestrator.results import evaluation
    from orchestrator.results.bundle import Bundle
    from orchestrator.results.tables import metric_dicts, metric_table, score_dicts, score_table
    from orchestrator.scoring.papers import PAPER_SCORES

    loaded = Bundle.load(bundle)
    datasets = load_datasets(home.expanduser().resolve(), data)
    cases, left_out = evaluation.cases_to_score(loaded.config, datasets)
    for name, count in left_out.items():
        err.print(
            f"{name}: {count} cases that training or selection saw, or twins of, are left out",
            highlight=False,
        )
    papers = evaluation.as_papers(loaded, cases, paper_score or [])
    with bar(f"scoring {len(cases)} images") as on_progress:
        scored = list(evaluation.evaluate(loaded, cases, on_progress))
    means, lines = evaluation.means(scored), evaluation.breakdown(scored)
    rate = evaluation.images_per_second(scored)
    if as_json:
        print_json(
            {
                "cases": len(scored),
                "left_out": left_out,
                "threshold": loaded.config.threshold,
                "scores": metric_dicts(means),
                "paper_scores": papers,
                "breakdown": score_dicts(lines),
                "images_per_second": rate,
                "worst": [
                    {"case": one.case.id, "dice": one.scores["dice"]}
                    for one in evaluation.worst_first(scored)[:worst]
                ],
            }
        )
    else:
        title = f"{bundle.name} on {', '.join(data)}, {len(scored)} images, threshold {loaded.config.threshold:.3f}"
        out.print(metric_table(means, title))
        for name, value in papers.items():
            out.print(f"{name} {value:.4f}: {PAPER_SCORES[name].meaning}", markup=False, highlight=False)
        out.print(score_table(lines, "where it does well and where it does not, in percent"))
        out.print(
            f"{rate:.1f} images a second on this CPU, one at a time, from decoded pixels to mask",
            highlight=False,
        )
    if out_folder is not None:
        out_folder.mkdir(parents=True, exist_ok=True)
        evaluation.write_csv(scored, out_folder / "scores.csv")
        (out_folder / "worst.png").write_bytes(evaluation.worst_sheet(loaded, scored, worst))
        (err if as_json else out).print(
            f"every image in {out_folder}/scores.csv, the worst in worst.png", highlight=False
        )


def compare(
    studies: Annotated[
        list[str], typer.Argument(help="Studies, or STUDY:TRIAL; the first is the reference.")
    ],
    metric: Metric = "dice",
    plot: Annotated[Path | None, typer.Option(help="PNG of the differences.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say which of several systems is better, by how much, and how sure that is; paired, image by image."""
    from orchestrator.cli.results import known_metric
    from orchestrator.results import comparison
    from orchestrator.results.tables import comparison_dicts, comparison_table

    contenders = [
        comparison.contender(home.expanduser().resolve(), name, known_metric(metric)) for name in studies
    ]
    rows = comparison.compare(contenders)
    if as_json:
        print_json(comparison_dicts(rows))
    else:
        out.print(comparison_table(rows, f"differences in {metric}, in points of a percent"))
        for row in rows:
            out.print(comparison.verdict(row, metric), highlight=False)
    if plot is not None:
        plot.write_bytes(comparison.difference_plot(rows, metric))
        (err if as_json else out).print(f"plot in {plot}", highlight=False)
