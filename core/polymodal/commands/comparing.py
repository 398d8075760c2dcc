"""Comparing: one recipe in several arms and seeds, and a table of what came out.

    config: small.yaml                       # what every arm starts from, beside this file
    seeds: [0, 1, 2]
    arms:
      objective: {}                          # as the config says
      control: {objectives.match.weight: 0}  # changed values, as on the command line
      fine-tuned:                            # stages, each with its own changes or config
        - {}
        - {config: tune.yaml, streams.image.encoder.initialize: "{previous}"}

`{previous}` is the directory of the stage before, in the same arm and seed. An arm's figures are
those of its last stage.
"""

import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from polymodal.config.reading import read_config
from polymodal.config.shape import Config
from polymodal.ground.durable import write_text
from polymodal.ground.errors import ConfigError, DataError, nearest
from polymodal.plugins.origin import Origin, load_yaml
from polymodal.runs.directory import RunDirectory
from polymodal.runs.run import read_run_config


@dataclass(frozen=True)
class Stage:
    """One training of an arm: a config and the changes to it."""

    config: Path
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What a comparison's file says."""

    arms: Mapping[str, Sequence[Stage]]
    seeds: Sequence[int]


def read_comparison(path: Path) -> Comparison:
    """Read a comparison and check every stage's config.

    Raises:
        ConfigError: what is wrong, with the file.
    """
    if not path.is_file():
        raise ConfigError([f"{path}: no such file"])
    values = load_yaml(path)
    known = ("config", "seeds", "arms")
    if not isinstance(values, Mapping) or not isinstance(values.get("arms"), Mapping):
        raise ConfigError([f"{path}: must hold the keys {', '.join(known)}"])
    for key in values:
        if key not in known:
            raise ConfigError([f"{path}: unknown key {key!r}.{nearest(str(key), known)}"])
    seeds = values.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int for s in seeds):
        raise ConfigError([f"{path}: seeds must be a list of whole numbers, got {seeds!r}"])
    arms = {}
    for name, arm in values["arms"].items():
        stages = []
        for changes in arm if isinstance(arm, list) else [arm]:
            if not isinstance(changes, Mapping):
                raise ConfigError([f"{path}: arms.{name}: must be changes, as {{key: value}}"])
            config = changes.get("config", values.get("config"))
            if config is None:
                raise ConfigError([f"{path}: arms.{name}: no config is named, here or above"])
            rest = {key: value for key, value in changes.items() if key != "config"}
            stages.append(Stage(path.parent / config, rest))
        arms[str(name)] = stages
    comparison = Comparison(arms, seeds)
    for _, _, planned in _trials(comparison):
        for stage in planned:
            # What a stage takes from the one before can't be there yet.
            now = {k: v for k, v in stage.changes.items() if "{previous}" not in str(v)}
            read_config(stage.config, _overrides(now))
    return comparison


def _trials(comparison: Comparison) -> Iterator[tuple[str, int, Sequence[Stage]]]:
    for seed in comparison.seeds:
        for arm, stages in comparison.arms.items():
            yield arm, seed, stages


def _overrides(changes: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def compare(comparison: Comparison, out: Path, *, jobs: int = 1) -> list[dict[str, Any]]:
    """Train every arm with every seed and return a row for each figure.

    Runs lie in out/arm/seed-N; finished ones are not repeated, others go on where they stopped.
    `results.json` and `results.md` are written beside them.

    Args:
        comparison: checked.
        out: the folder to write to.
        jobs: trainings side by side, each in a process with its share of the cores.

    Raises:
        PolymodalError: of the first training that fails.
    """
    trials = list(_trials(comparison))
    arguments = [(stages, out / arm / f"seed-{seed}", seed, jobs) for arm, seed, stages in trials]
    if jobs == 1:
        found = [_trial(*each) for each in arguments]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            found = list(pool.map(_trial, *zip(*arguments, strict=True)))
    rows = _rows(trials, found)
    text = json.dumps({"seeds": list(comparison.seeds), "rows": rows}, indent=2)
    write_text(out / "results.json", text + "\n")
    write_text(out / "results.md", markdown(rows))
    return rows


def _trial(stages: Sequence[Stage], out: Path, seed: int, jobs: int) -> list[dict[str, Any]]:
    """Train the stages of one arm with one seed and return its last scores."""
    scores: list[dict[str, Any]] = []
    previous = ""
    for number, stage in enumerate(stages):
        directory = out / f"stage-{number}" if len(stages) > 1 else out
        changes = {
            key: value.replace("{previous}", previous) if isinstance(value, str) else value
            for key, value in stage.changes.items()
        }
        overrides = _overrides({"seed": seed, **changes})
        config = read_config(stage.config, overrides)
        scores = _finished(directory, config) or _train(
            config, directory, Origin(stage.config, overrides), jobs
        )
        previous = str(directory)
    return scores


def _finished(directory: Path, config: Config) -> list[dict[str, Any]] | None:
    file = directory / "evaluation.json"
    if not file.exists():
        return None
    if read_run_config(directory).model_dump() != config.model_dump():
        raise DataError(f"{directory} holds a run with another config; choose another --out")
    found = RunDirectory(directory).read_json(file.name)
    done: bool = found["step"] == config.trainer.max_steps or config.trainer.max_steps is None
    return list(found["scores"]) if done else None


def _train(config: Config, directory: Path, origin: Origin, jobs: int) -> list[dict[str, Any]]:
    import torch

    from polymodal.training.train import Training

    if jobs > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    return Training(config, directory, resume=True, origin=origin, quiet=True).run()


def _rows(
    trials: Sequence[tuple[str, int, Sequence[Stage]]], found: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for (arm, _, _), scores in zip(trials, found, strict=True):
        for score in scores:
            key = (score["evaluation"], score["metric"])
            row = rows.setdefault(
                key, {**{k: score[k] for k in ("evaluation", "metric", "chance")}, "arms": {}}
            )
            values = row["arms"].setdefault(arm, {"values": [], "untrained": []})
            values["values"].append(score["value"])
            values["untrained"].append(score["untrained"])
    return list(rows.values())


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table: mean and standard deviation over seeds."""
    arms = list(dict.fromkeys(arm for row in rows for arm in row["arms"]))
    lines = [
        f"| evaluation | metric | {' | '.join(arms)} | untrained | chance |",
        "| --- " * 2 + "| ---: " * (len(arms) + 2) + "|",
    ]
    for row in rows:
        cells = [_spread(row["arms"].get(arm, {}).get("values", [])) for arm in arms]
        first = next(iter(row["arms"].values()))
        chance = "" if row["chance"] is None else f"{row['chance']:.3f}"
        before = _spread(first["untrained"])
        cells = [row["evaluation"], row["metric"], *cells, before, chance]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    return f"{mean(known):.3f}" + (f" ± {stdev(known):.3f}" if len(known) > 1 else "")
