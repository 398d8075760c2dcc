"""A run: a directory with everything one training left behind.

config.yaml        the config, resolved but for ${oc.env:...}, whose values may be secrets
data.json          rows and fingerprints of the data sources, to see on --resume that they changed
metrics.jsonl      a line each trainer.log_every steps
evaluation.json    scores, with chance and the same model untrained
scores.jsonl       a line each time they were taken, to see when each task was at its best
skipped.jsonl      records that could not be used, and why
checkpoints/       to go on from
model/             to use: weights, config, tokenizers, plugins and their versions
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file, save_model

from polymodal.config.reading import check_config
from polymodal.config.references import with_environment, with_references
from polymodal.config.shape import Config, TrainedSlot
from polymodal.ground.device import choose_device
from polymodal.ground.distributed import rank, whole_weights
from polymodal.ground.durable import beside, checksum, damage_of, put_in_place, write_text, writing
from polymodal.ground.errors import ConfigError, DataError, PluginError, foreign, nearest
from polymodal.ground.locking import Lock
from polymodal.interfaces.evaluation import Score
from polymodal.interfaces.tokenizer import Tokenizer
from polymodal.model.model import PretrainingModel
from polymodal.model.probing import ModelProbe
from polymodal.plugins.discovery import Plugins, installed
from polymodal.plugins.signature import read_signature
from polymodal.runs.build import Builder, Requirement


class RunDirectory:
    """The files of a run, by what they are for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock = Lock(self.path / ".lock")

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the model lies."""
        return self.path / "model"

    @property
    def holds_run(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "config.yaml").exists()

    def begin(self, config: Config, *, resume: bool = True) -> None:
        """Create the directory, keep other processes out of it, and write the config.

        Raises:
            DataError: it can't be written to, holds something else, or is in use; unless `resume`,
                it holds a run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._require_ours()
            if not self._lock.take():
                raise DataError(
                    f"{self.path} is in use: another process trains there. Wait for it, or choose "
                    "another --out"
                )
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(f"{self.path} is a file; choose another --out") from error
        except OSError as error:
            raise DataError(
                f"{self.path} can't be written to: {error.strerror}; choose another --out"
            ) from error
        self._require_ours()
        if self.holds_run and not resume:  # begun by another since we looked
            raise self.taken()
        write_text(self.path / "config.yaml", config_yaml(config))

    def _require_ours(self) -> None:
        left = {beside(self.path / "config.yaml"), self._lock.path}  # by a kill
        if not self.holds_run and set(self.path.iterdir()) - left:
            raise DataError(f"{self.path} is not empty and holds no run; choose another --out")

    def taken(self) -> DataError:
        """Return what to say where a run is and none may be."""
        return DataError(
            f"{self.path} holds another run; pass --resume to go on with it, or choose another "
            "--out"
        )

    def release(self) -> None:
        """Let other processes in."""
        self._lock.release()

    def append(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to a JSONL file."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the whole lines of a JSONL file; one cut short by a kill is left out."""
        path = self.path / name
        found = []
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    def cut(self, name: str, step: int) -> None:
        """Drop lines of a JSONL file written after a step: the run goes on from there."""

        def written_before(line: Mapping[str, Any]) -> bool:
            at = line.get("step", 0)  # of a damaged line, anything
            return isinstance(at, int | float) and at <= step

        kept = [line for line in self.lines(name) if written_before(line)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        if (self.path / name).exists():
            write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, whole or not at all."""
        write_text(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file, None without one.

        Raises:
            DataError: it is damaged.
        """
        path = self.path / name
        return _read_json(path) if path.exists() else None

    def data(self) -> dict[str, dict[str, Any]]:
        """Return what was recorded of each source when the run began, nothing without a run.

        Raises:
            DataError: the record is damaged.
        """
        found = self.read_json("data.json") if self.holds_run else None
        if found is None:
            return {}
        try:
            return {n: {"rows": r["rows"], **r} for n, r in found["sources"].items()}
        except (TypeError, KeyError, AttributeError) as error:
            raise self._damaged("data.json", error) from error

    def untrained(self) -> dict[str, list[Score]] | None:
        """Return the scores before the first step, None where they were not measured.

        Raises:
            DataError: the record is damaged.
        """
        found = self.read_json("untrained.json")
        if found is None:
            return None
        try:
            return {name: [Score(**score) for score in each] for name, each in found.items()}
        except (TypeError, AttributeError) as error:
            raise self._damaged("untrained.json", error) from error

    def _damaged(self, name: str, error: Exception) -> DataError:
        return DataError(
            f"{self.path / name} is damaged: {foreign(error)}; remove it to go on without"
        )


def _read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {foreign(error)}") from error


def _read_values(path: Path) -> dict[str, Any]:
    """Return a run's config as plain values.

    Raises:
        DataError: it is damaged, or no config.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {foreign(error)}") from error
    if not isinstance(values, dict) or not isinstance(values.get("streams"), dict):
        raise DataError(f"{path} is damaged: it holds no config of a run")
    return with_environment(values)


def config_values(config: Config) -> dict[str, Any]:
    """Return a config as plain values, its defaults written out."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return values


def config_yaml(config: Config) -> str:
    """Return a config as YAML, its defaults written out.

    What came from the environment stands there as `${oc.env:NAME}`: it may be a secret.
    """
    values = with_references(config_values(config), config)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


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
        before = _read_json(known) if known.exists() else {}
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
    recorded = _read_json(file) if file.exists() else []
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
