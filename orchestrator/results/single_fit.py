"""A fit outside of a study, written as a run in MLflow and as files that other programs load."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.common.errors import python_errors_of
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.results.provenance import git_revision
from orchestrator.scoring.formatting import percent
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.space.space import Configuration

EXPERIMENT = "single fits"  # no study has this name: it has a blank


@python_errors_of
@dataclass(frozen=True)
class SingleFit:
    """A finished fit with the mask rule that suits its own validation images best."""

    record: FitRecord
    configuration: Configuration
    plan: SplitPlan
    masks: PostProcess
    scores: Mapping[str, float]  # means over the validation images
    bundle: Path | None = None  # where it was exported
    run_id: str | None = None  # in MLflow

    @classmethod
    def of(cls, record: FitRecord, configuration: Configuration, plan: SplitPlan) -> SingleFit:
        choice: MaskChoice = configuration.masks
        masks = choice.best(record.histograms)
        values = scores_under(record.histograms, masks)
        return cls(
            record, configuration, plan, masks, {name: float(one.mean()) for name, one in values.items()}
        )

    def as_dict(self) -> dict[str, Any]:
        """Id, scores, duration and places of the fit, as plain values for JSON."""
        record = self.record
        return {
            "fit_id": record.fit_id,
            "scores": dict(self.scores),
            "threshold": self.masks.threshold,
            "best_epoch": record.best_epoch + 1,
            "epochs": len(record.curves),
            "seconds": record.seconds,
            "folder": str(record.folder),
            "bundle": None if self.bundle is None else str(self.bundle),
            "run_id": self.run_id,
        }

    def export(self, folder: Path) -> Path:
        """Write the bundle: weights, ONNX, configuration, card. Raises `BadBundle` where it cannot be written."""
        from orchestrator.results.export.write import write_bundle
        from orchestrator.search.fit_jobs import load_network

        configuration, plan = self.configuration, self.plan
        return write_bundle(
            folder,
            [load_network(self.record)],
            network_name=configuration.network,
            network_params=configuration.network_params,
            image_size=configuration.recipe.image_size,
            tta=configuration.recipe.tta,
            masks=self.masks,
            trained_on=plan.datasets,
            held_out=plan.test,
            near_duplicates=tuple(sorted(plan.left_out)),
            card=self.card(),
            metadata={"fit": self.record.fit_id, "git_revision": git_revision()},
        )

    @staticmethod
    def why_ask(folder: Path, fit_id: str) -> str | None:
        """Export that this fit's would replace, by its card; None if there is none, or of the same fit."""
        from orchestrator.results.export.write import named_export

        earlier = named_export(folder)
        if earlier is None or fit_id in (folder / "model_card.md").read_text("utf-8", "replace"):
            return None
        return earlier

    def card(self) -> str:
        """Model card as Markdown: the network, and how reliable its scores are."""
        spec, recipe = self.record.spec, self.configuration.recipe
        data = ", ".join(f"{name} ({fingerprint[:12]})" for name, fingerprint in self.plan.datasets.items())
        rows = "\n".join(f"| {name} | {percent(value)} |" for name, value in self.scores.items())
        settings = "\n".join(
            f"- {name} = {value}" for name, value in recipe.model_dump(exclude=set(recipe.idle)).items()
        )
        return (
            f"# {self.configuration.network}, one fit\n\n"
            f"Trained on {len(spec.train)} images, validated on {len(spec.val)} ({self.plan.name}, fold {spec.fold}), "
            f"of: {data}. {len(self.plan.test)} images held out, on which nothing was scored. Fit "
            f"{self.record.fit_id}; best epoch {self.record.best_epoch + 1} of {len(self.record.curves)}.\n\n"
            "Not a medical device.\n\n"
            f"## Scores on the validation images, in percent\n\n| score | mean |\n|---|---:|\n{rows}\n\n"
            f"Masks at threshold {self.masks.threshold:.3f}. Epoch and threshold were chosen on these images, so the "
            f"scores are too good; `orchestrator evaluate` scores other images.\n\n## Settings\n\n{settings}\n"
        )

    def log(self, uri: str) -> str:
        """Write a run in MLflow with parameters, curves and scores from 0 to 1; returns its id. One run a fit."""
        from mlflow.entities import Metric, Param

        from orchestrator.results.mlflow.client import connect
        from orchestrator.results.mlflow.network_run import answering

        with answering(uri):
            client = connect(uri)
            experiment = client.get_experiment_by_name(EXPERIMENT)
            number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
            found = client.search_runs([number], f"tags.fit_id = '{self.record.fit_id}'")
            if found:
                return str(found[0].info.run_id)
            tags = {"fit_id": self.record.fit_id, "split": self.plan.name, "fold": self.record.spec.fold}
            name = f"{self.configuration.network}, {self.record.spec.fold}"
            run_id = str(client.create_run(number, run_name=name, tags=tags).info.run_id)
            settings = self.configuration.network_params | self.configuration.recipe.model_dump()
            params = [
                Param(key, str(value))
                for key, value in {"network": self.configuration.network, **settings}.items()
            ]
            at = int(time.time() * 1000)
            metrics = [Metric(key, value, at, 0) for key, value in self._summary().items()]
            for row in self.record.curves:
                step = int(row["epoch"]) + 1
                metrics += [
                    Metric(key, row[key], at, step)
                    for key in ("train_loss", "val_loss", "val_dice")
                    if key in row
                ]
            client.log_batch(run_id, metrics=metrics, params=params)
            client.set_terminated(run_id)
        return run_id

    def _summary(self) -> dict[str, float]:
        facts = {"threshold": self.masks.threshold, "best_epoch": self.record.best_epoch + 1.0}
        return {**self.scores, **facts, "seconds": self.record.seconds}
