"""The peer of `benchmarks.sequential_quality`: RecBole's own SASRec, unchanged.

Runs in the environment that `benchmarks.recbole_sasrec` creates, without this library: `python
stock_sasrec.py FOLDER`, where FOLDER contains `settings.json` and the rows as RecBole's atomic
files. Data, model, trainer, early stopping and evaluation are RecBole's. The script adds a timer
for the epochs, a checkpoint after each of them, from which a killed run resumes, and the scores of
the whole catalogue, which are written for other evaluators than RecBole's.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy")


class OutOfTime(Exception):
    """Training has had the minutes that the settings give it."""


class TimedTrainer(Trainer):
    """RecBole's trainer, which notes what each epoch cost and leaves a state after it."""

    def __init__(self, config: Any, model: Any, state: Path, minutes: float):
        super().__init__(config, model)
        self.state, self.minutes = state, minutes
        self.epochs_run: list[dict[str, float]] = []
        self.best_weights: dict[str, Any] = {}

    def _train_epoch(self, *args: Any, **options: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = super()._train_epoch(*args, **options)
        self.epochs_run.append(
            {
                "wall_seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "loss": loss,
            }
        )
        return loss

    def fit_and_keep(self, train: Any, validation: Any) -> str:
        """Trains, from the kept state if there is one; says why it ended."""
        if self.state.exists():
            self._go_on(train)

        def keep(epoch: int, score: float) -> None:
            self.epochs_run[-1]["validation_ndcg_at_10"] = float(score)
            if self.cur_step == 0:
                weights = self.model.state_dict().items()
                self.best_weights = {name: value.clone() for name, value in weights}
            self._keep(train)
            print(f"epoch {epoch}: {json.dumps(self.epochs_run[-1])}", flush=True)
            if self.cur_step <= self.stopping_step:
                self._check_time()

        try:
            if self.cur_step <= self.stopping_step:
                self._check_time()
                self.fit(train, validation, verbose=False, saved=False, callback_fn=keep)
        except OutOfTime:
            return f"{self.minutes:g} minutes of training on every thread were over"
        if self.cur_step > self.stopping_step:
            return f"early stopping: no better validation NDCG@10 in {self.cur_step} epochs"
        return f"all {self.epochs} epochs were run"

    def _check_time(self) -> None:
        # By the processor's clock, so that what else runs on the machine takes none of it away.
        cpu = sum(epoch["cpu_seconds"] for epoch in self.epochs_run)
        if cpu / torch.get_num_threads() > 60 * self.minutes:
            raise OutOfTime

    def _keep(self, train: Any) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
            "best_score": float(self.best_valid_score),
            "cur_step": self.cur_step,
            "epochs_run": self.epochs_run,
            "random": torch.get_rng_state(),
            "shuffle": train.generator.get_state(),
        }
        temporary = self.state.with_suffix(".new")
        torch.save(state, temporary)
        temporary.replace(self.state)

    def _go_on(self, train: Any) -> None:
        state = torch.load(self.state, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights, self.best_valid_score = state["best_weights"], state["best_score"]
        self.cur_step, self.epochs_run = state["cur_step"], state["epochs_run"]
        self.start_epoch = len(self.epochs_run)
        torch.set_rng_state(state["random"])
        train.generator.set_state(state["shuffle"])


def check_rows(loader: Any, expected: dict[str, str], part: str) -> None:
    """Raises unless RecBole asks each user for the very item that our split holds out."""
    data = loader.dataset
    users = data.id2token(data.uid_field, data.inter_feat[data.uid_field].numpy())
    items = data.id2token(data.iid_field, data.inter_feat[data.iid_field].numpy())
    if len(users) != len(expected) or dict(zip(users, items, strict=True)) != expected:
        raise ValueError(f"RecBole's {part} rows are not those of our split; check the ranks.")


@torch.no_grad()
def catalogue_scores(model: Any, loader: Any) -> tuple[list[str], np.ndarray]:
    """(users [n], float32 [n, items with RecBole's padding item first]) of a part."""
    model.eval()  # PyTorch's mode without dropout
    data, users, scores = loader.dataset, [], []
    for interaction, *_ in loader:
        users.extend(data.id2token(data.uid_field, interaction[data.uid_field].numpy()))
        scores.append(model.full_sort_predict(interaction).numpy())
    return users, np.concatenate(scores)


def main() -> None:
    """Trains as the settings say, evaluates, writes scores and result."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    torch.set_num_threads(settings["threads"])
    config = Config(model="SASRec", dataset=settings["dataset"], config_dict=settings["config"])
    init_seed(config["seed"], config["reproducibility"])
    train, validation, test = data_preparation(config, create_dataset(config))
    check_rows(validation, settings["validation"], "validation")
    check_rows(test, settings["test"], "test")
    if len(train.dataset) != settings["samples"]:
        raise ValueError(f"RecBole made {len(train.dataset)} samples of {settings['samples']}.")

    init_seed(config["seed"], config["reproducibility"])
    model = SASRec(config, train.dataset)
    trainer = TimedTrainer(config, model, folder / "state.pt", settings["minutes"])
    why = trainer.fit_and_keep(train, validation)
    model.load_state_dict(trainer.best_weights)
    users, scores = catalogue_scores(model, test)
    items = test.dataset.id2token(test.dataset.iid_field, np.arange(test.dataset.item_num))
    np.savez_compressed(
        folder / "scores.npz",
        users=np.asarray(users, str),
        items=np.asarray(items[1:], str),
        scores=scores[:, 1:],
    )
    result = {
        "stopped": why,
        "epochs_run": trainer.epochs_run,
        "recbole_metrics": {
            "validation": trainer.evaluate(validation, load_best_model=False),
            "test": trainer.evaluate(test, load_best_model=False),
        },
        "versions": {name: version(name) for name in PACKAGES},
        "parameters": sum(weights.numel() for weights in model.parameters()),
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
