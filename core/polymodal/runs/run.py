"""A run that is there: its model, saved and loaded, with all that it needs."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file, save_model

from polymodal.config.reading import check_config
from polymodal.config.references import with_environment
from polymodal.config.shape import Config, TrainedSlot
from polymodal.ground.device import choose_device
from polymodal.ground.distributed import rank, whole_weights
from polymodal.ground.durable import beside, checksum, damage_of, put_in_place, write_text, writing
from polymodal.ground.errors import ConfigError, DataError, PluginError, foreign, nearest
from polymodal.interfaces.evaluation import Score
from polymodal.interfaces.tokenizer import Tokenizer
from polymodal.model.model import PretrainingModel
from polymodal.model.probing import ModelProbe
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.origin import load_yaml
from polymodal.plugins.signature import read_signature
from polymodal.runs.build import Builder, Requirement
from polymodal.runs.directory import config_values, config_yaml, read_json


def _read_values(path: Path) -> dict[str, Any]:
    """Return a run's config as plain values.

    Raises:
        DataError: it is damaged, or no config.
    """
    try:
        values = load_yaml(path)
    except (ConfigError, RecursionError) as error:
        why = " ".join(str(error).split()).removeprefix(f"{path}: ")
        raise DataError(f"{path} is damaged: {why}") from error
    if not isinstance(values, dict) or not isinstance(values.get("streams"), dict):
        raise DataError(f"{path} is damaged: it holds no config of a run")
    return with_environment(values)


def save_run_model(
    directory: Path,
    model: PretrainingModel,
    config: Config,
    tokenizers: Mapping[str, Tokenizer],
    requirements: Sequence[Requirement],
) -> None:
    """Write what `load` needs: weights, config, tokenizers and plugin versions."""
    weights = whole_weights(model)  # all ranks give their shards
    if rank() > 0:
        return
    save_tokenizers(directory, tokenizers)
    write_text(directory / "config.yaml", config_yaml(config))
    listed = [asdict(requirement) for requirement in requirements]
    write_text(directory / "requirements.json", json.dumps(listed, indent=2) + "\n")
    file = directory / "model.safetensors"
    with writing(file):
        if weights is None:
            save_model(model, str(beside(file)))
        else:
            save_file(weights, beside(file))
        # A kill may come between the two: the sum of what was there before is kept, too.
        known = directory / "checksums.json"
        before = read_json(known) if known.exists() else {}
        sums = [checksum(beside(file)), *before.get(file.name, [])[:1]]
        write_text(known, json.dumps({file.name: sums}, indent=2) + "\n")
        put_in_place(file)


def save_tokenizers(directory: Path, tokenizers: Mapping[str, Tokenizer]) -> None:
    """Write what each tokenizer has learned."""
    (directory / "tokenizers").mkdir(parents=True, exist_ok=True)
    for name, tokenizer in tokenizers.items():
        write_text(directory / "tokenizers" / f"{name}.json", json.dumps(tokenizer.state()))


def has_tokenizers(directory: Path, names: Iterable[str]) -> bool:
    """Whether every tokenizer was saved: a kill may come after some."""
    return all((directory / "tokenizers" / f"{name}.json").exists() for name in names)


def load_tokenizers(directory: Path, tokenizers: Mapping[str, Tokenizer]) -> None:
    """Give each tokenizer back what it had learned.

    Raises:
        DataError: a file is missing or does not fit.
    """
    for name, tokenizer in tokenizers.items():
        file = directory / "tokenizers" / f"{name}.json"
        try:
            tokenizer.load_state(json.loads(file.read_text(encoding="utf-8")))
        except Exception as error:  # of whatever reads a state that is damaged
            raise DataError(f"{file} can't be loaded: {foreign(error)}") from error


class Run:
    """A trained model, ready to use."""

    def __init__(self, path: Path, config: Config, builder: Builder, model: PretrainingModel):
        self.path = path
        self.config = config
        self.builder = builder
        self.model = model
        self._probe: ModelProbe | None = None

    @property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """Each stream's tokenizer."""
        return {name: reading.tokenizer for name, reading in self.builder.readings.items()}

    def probe(self, *, batch_size: int = 64) -> ModelProbe:
        """Return the model as evaluations see it, with the run's own data sources."""
        return ModelProbe(
            self.model,
            self.builder.readings,
            self.builder.sources,
            device=next(self.model.parameters()).device,
            batch_size=batch_size,
            workers=self.config.data.workers,
            seed=self.config.seed,
        )

    def embed(
        self,
        stream: str,
        values: Sequence[Any],
        *,
        objective: str | None = None,
        batch_size: int = 64,
    ) -> Float[np.ndarray, "value width"]:
        """Return a vector for each value: a path, a text, an array, as in a record.

        Args:
            stream: whose encoder to use.
            values: what the stream's field would hold.
            objective: project by its heads, so that streams can be compared (contrastive).
            batch_size: values at a time.

        Raises:
            DataError: no stream has this name.
            UnreadableError: a value can't be read.
        """
        if self._probe is None or self._probe.batch_size != batch_size:
            self._probe = ModelProbe(
                self.model,
                self.builder.readings,
                {},
                device=next(self.model.parameters()).device,
                batch_size=batch_size,
            )
        return self._probe.encode(stream, values, objective=objective)


def read_run_values(path: Path) -> dict[str, Any]:
    """Return the config of a run as plain values, whether or not its plugins are here.

    Raises:
        DataError: the path holds no run.
    """
    file = path / "config.yaml"
    if not file.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings) if not path.exists() else ""
        raise DataError(f"{path} holds no run: it has no config.yaml.{hint}")
    return _read_values(file)


def read_run_config(path: Path, *, plugins: Plugins | None = None) -> Config:
    """Return the config of a run.

    Raises:
        DataError: the path holds no run.
        ConfigError: a plugin it needs is missing or changed.
    """
    return check_config(read_run_values(path), plugins=plugins)


def load(
    path: str | Path,
    *,
    device: str = "cpu",
    streams: Sequence[str] | None = None,
    plugins: Plugins | None = None,
) -> Run:
    """Return the model of a finished (or checkpointed) run, in evaluation mode.

    Args:
        path: the run's directory.
        device: where to put the model.
        streams: load these streams alone, their tokenizers and encoders, and the methods, which
            may have changed an encoder; the plugins of all the rest may be missing.
        plugins: those of this environment unless given.

    Raises:
        DataError: there is no such run, it has no saved model yet, or its files are damaged.
        PolymodalError: the device is not here.
        PluginError: plugins the run needs are missing, with what to install.
    """
    path = Path(path)
    directory = path / "model"
    file = directory / "model.safetensors"
    if not file.is_file():
        reason = "has no saved model yet" if (path / "config.yaml").exists() else "holds no run"
        raise DataError(f"{path} {reason}: {file} does not exist")
    plugins = plugins or installed()
    where = choose_device(device, "device")
    values = _read_values(directory / "config.yaml")
    if streams is not None:
        values = _only(values, streams)
    _require(directory, values, plugins)
    config = check_config(values, plugins=plugins)
    builder = Builder(_without_start(config, plugins), plugins=plugins)
    load_tokenizers(directory, builder.tokenizers)
    model = builder.model()
    if damage := damage_of(file):
        raise DataError(f"{damage}. A checkpoint may be whole: train --resume writes it anew")
    try:
        missing, unexpected = load_model(model, file, strict=False)
    except SafetensorError as error:
        raise DataError(f"{file} is damaged: {foreign(error)}") from error
    except RuntimeError as error:
        first = str(error).splitlines()[1:2]
        raise DataError(f"{file} does not fit its config: {' '.join(first).strip()}") from error
    if missing or (unexpected and streams is None):
        raise DataError(
            f"{file} does not fit its config: missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
    model.to(where).eval()
    return Run(path, config, builder, model)


def _without_start(config: Config, plugins: Plugins) -> Config:
    """Return the config without the weights its parts started from: the run holds its own.

    These are `initialize`, and by convention an option called `pretrained`, unless required.
    """
    values = config_values(config)
    for path, (kind, slot) in config.slots().items():
        if kind not in ("encoder", "fusion", "objective", "method"):
            continue
        part = values
        for key in path.split("."):
            part = part[key]
        if isinstance(slot, TrainedSlot):
            part.pop("initialize", None)
        options = read_signature(plugins.find(slot.use, kind).target).options
        if "pretrained" in options and not options["pretrained"].required:
            part.pop("pretrained", None)
    return check_config(values, plugins=plugins)


def _only(values: Mapping[str, Any], streams: Sequence[str]) -> dict[str, Any]:
    """Return a config cut down to some streams and the methods that act on their encoders."""
    for stream in streams:
        if stream not in values["streams"]:
            raise ConfigError(
                [f"No stream is called {stream!r}.{nearest(stream, values['streams'])}"]
            )
    kept = {name: values["streams"][name] for name in streams}
    names = {
        part: {stream[part] for stream in kept.values() if isinstance(stream[part], str)}
        for part in ("tokenizer", "encoder")
    }
    return {
        "streams": kept,
        "tokenizers": {n: t for n, t in values.get("tokenizers", {}).items()
                       if n in names["tokenizer"]},
        "encoders": {n: e for n, e in values.get("encoders", {}).items() if n in names["encoder"]},
        "objectives": {},
        "methods": values.get("methods", {}),
        "trainer": {"max_steps": 0},
        "seed": values.get("seed", 0),
    }  # fmt: skip


def _uses(values: Any) -> Iterator[str]:
    """Yield every component name of a config's plain values."""
    if isinstance(values, Mapping):
        if isinstance(values.get("use"), str):
            yield values["use"]
        for value in values.values():
            yield from _uses(value)


def _plugins_of(values: Any) -> set[str]:
    """Return the plugins that a config's plain values name."""
    return {use.partition(".")[0] for use in _uses(values)}


def _require(directory: Path, values: Mapping[str, Any], plugins: Plugins) -> None:
    """Refuse a run whose plugins are not here, with what to install and what loads without.

    Raises:
        PluginError: one line a missing plugin.
    """
    file = directory / "requirements.json"
    recorded = read_json(file) if file.exists() else []
    missing = _plugins_of(values) - set(plugins.names())
    try:
        needed = [Requirement(**item) for item in recorded if item["plugin"] in missing]
    except (TypeError, KeyError) as error:
        raise DataError(f"{file} is damaged: {foreign(error)}") from error
    if not needed:
        return
    others = [s for s in values["streams"] if not missing & _plugins_of(_only(values, [s]))]
    hint = f" To load the streams that do without: streams={json.dumps(others)}" if others else ""
    raise PluginError("\n".join(f"The run needs {_missing(item)}.{hint}" for item in needed))


def _missing(requirement: Requirement) -> str:
    plugin, distribution = f"the plugin {requirement.plugin!r}", requirement.distribution
    if distribution is None:
        return f"{plugin}, which is not here: it was registered by hand, so register it again"
    return (
        f"{plugin} of {distribution} {requirement.version}, which is not installed: "
        f'pip install "{distribution}=={requirement.version}"'
    )


def score_rows(
    scores: Mapping[str, Sequence[Score]], untrained: Mapping[str, Sequence[Score]] | None
) -> list[dict[str, Any]]:
    """Return one flat row a figure: evaluation, metric, value, chance, untrained, samples."""
    before = {
        (name, score.metric): score.value
        for name, found in (untrained or {}).items()
        for score in found
    }
    return [
        {
            "evaluation": name,
            "metric": score.metric,
            "value": score.value,
            "chance": score.chance,
            "untrained": before.get((name, score.metric)),
            "higher_is_better": score.higher_is_better,
            "samples": score.samples,
        }
        for name, found in scores.items()
        for score in found
    ]
