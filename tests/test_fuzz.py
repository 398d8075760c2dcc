"""Damaged inputs of every reader, source and run folder end in one line, never in a traceback.

Inputs come from what plugins give for the conformance kit, so that a new reader is fuzzed the day
it is added. POLYMODAL_FUZZ=20000 runs so many; POLYMODAL_FUZZ_SEED=7 runs the one that failed
alone.
"""

import gc
import io
import json
import os
import shutil
import struct
import sys
import traceback
import wave
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from polymodal import PolymodalError, UnreadableError, installed, load
from polymodal.config.reading import check_config
from polymodal.data.reading import StreamReading
from polymodal.data.splits import SplitSource
from polymodal.ground.errors import ConfigError, PluginError
from polymodal.interfaces.tokenizer import Tokenizer
from polymodal.runs.run import read_run_config
from polymodal.testing.building import Construction, examples_of, prepared
from polymodal.training.train import Training

SIZE = int(os.environ.get("POLYMODAL_FUZZ", "400"))
ONLY = os.environ.get("POLYMODAL_FUZZ_SEED")
ROOM = 64 * 2**20  # an input may take so much memory, and a hundred times its size

pytestmark = pytest.mark.filterwarnings("ignore")  # what a library warns of is no failure


# --- Damage


def broken_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage some bytes in one to three ways."""
    for _ in range(rng.integers(1, 4)):
        size = len(data)
        start, length = int(rng.integers(size + 1)), int(rng.integers(1, 65))
        stretch = data[start : start + length]
        match int(rng.integers(10)):
            case 0:
                changed = bytearray(data)
                for place in rng.integers(size, size=min(size, 4)):
                    changed[place] ^= 1 << int(rng.integers(8))
                data = bytes(changed)
            case 1:
                data = data[:start]
            case 2:
                data = data[:start] + rng.bytes(length) + data[start:]
            case 3:
                data = data[:start] + data[start + length :]
            case 4:
                data = data[:start] + stretch * int(rng.integers(2, 40)) + data[start:]
            case 5:  # a size, in either order of bytes
                number = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65535, 1 << 20]))
                packed = struct.pack(str(rng.choice(["<I", ">I"])), number)
                start = int(rng.integers(min(size, 64) + 1))
                data = data[:start] + packed + data[start + 4 :]
            case 6:
                data = data[:start] + bytes(length) + data[start + length :]
            case 7:
                data = b"" if rng.random() < 0.2 else data[start:] + data[:start]
            case 8:
                text = data.decode("latin-1")
                data = text.encode(str(rng.choice(["utf-16", "utf-32", "utf-8-sig", "utf-7"])))
            case 9:
                junk = [b"\xff\xfe", b"\xed\xa0\x80", b"NaN", b"-1e999", b'"', b"\n", b"[" * 3000]
                data = data[:start] + junk[rng.integers(len(junk))] + data[start:]
    return data


def junk(rng: np.random.Generator):
    """Return a value of a wrong kind, size or nesting."""
    nested = []
    for _ in range(200):
        nested = [nested]
    found = [
        None, True, "", "\ud800", "a\x00b", "x" * 100_000, "/" + "y/" * 5000, "/tmp", b"",
        b"\x00" * 9,
        0, -1, 2**31, 2**63, 2**64, -(2**200), 10**400, 0.5, -1.5,
        float("nan"), float("inf"), -1e308, 1e308,
        [], [[]], {}, {"": None}, {1: 2}, nested, {"a": nested}, [None, 1, "a"], [[1, 2], [3]],
        object(), int, 1j, {1, 2}, range(5), np.float64("nan"), np.datetime64("NaT"),
        np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0), np.uint8), np.full((5, 5), np.inf),
        np.array([1j, 2]), np.array(["a", "b"]), np.array([None, 1]), np.array(3), np.ma.masked,
        np.zeros((2, 2, 2, 2, 2)), np.zeros(3, [("a", "i4")]), np.array(["2020"], "M8[D]"),
        np.broadcast_to(np.float32(1), (1 << 20, 1 << 20)), "-5", "1e400", "\n\r\n", "\u202e",
    ]  # fmt: skip
    return found[rng.integers(len(found))]


def broken(value, rng: np.random.Generator):
    """Damage a value: somewhere within, or as a whole."""
    if rng.random() < 0.1:
        return junk(rng)
    if isinstance(value, bytes):
        return broken_bytes(value, rng)
    if isinstance(value, str):
        found = broken_bytes(value.encode("utf-8", "surrogatepass"), rng)
        return found.decode("utf-8", str(rng.choice(["surrogateescape", "replace"])))
    if isinstance(value, dict) and value:
        key = list(value)[rng.integers(len(value))]
        match int(rng.integers(4)):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, junk_key(rng): value[key]}
        return {**value, key: broken(value[key], rng)}
    if isinstance(value, list | tuple) and value:
        place = int(rng.integers(len(value)))
        match int(rng.integers(4)):
            case 0:
                found = [*value[:place], *value[place + 1 :]]
            case 1:
                found = [*value, *[value[place]] * int(rng.integers(1, 50))]
            case _:
                found = [*value[:place], broken(value[place], rng), *value[place + 1 :]]
        return type(value)(found) if type(value) in (list, tuple) else found
    if isinstance(value, np.ndarray) and value.size:
        return broken_array(value, rng)
    return junk(rng)


def junk_key(rng: np.random.Generator):
    return ["", "path", "bytes", "\ud800", "use", "many"][rng.integers(6)]


def broken_array(value: np.ndarray, rng: np.random.Generator):
    match int(rng.integers(8)):
        case 0:
            return value[: rng.integers(len(value) + 1)] if value.ndim else value
        case 1:
            return value[None]
        case 2:
            return value.astype(
                str(rng.choice(["S", "U", "O", "c16", "f2", "?", "i8", "u1", "f8"]))
            )
        case 3:
            return np.repeat(value, int(rng.integers(5)), axis=-1) if value.ndim else value
        case 4:
            return value.T
        case 5:
            return value.tolist()
        case 6:
            return value.reshape(-1)
    found = value.astype(object if rng.random() < 0.2 else np.float64, copy=True)
    worst = [np.nan, np.inf, -np.inf, 1e300, -1e9, -0.0, 2**53]
    found.flat[rng.integers(found.size)] = worst[rng.integers(len(worst))]
    return found


# --- Running one input


def peak() -> int:
    """Return how much memory this process ever had since `lower`, in bytes; 0 where not told."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")), 0)


def lower() -> None:
    """Let the peak fall to what is held now."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def size_of(value) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else value.itemsize
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(size_of, value)) + 8 * len(value)
    return sys.getsizeof(value)


def place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-4:-1])


class Findings:
    """What became of the inputs of one component."""

    def __init__(self, name: str):
        self.name = name
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, str] = {}

    def run(self, seed: int, size: int, read) -> None:
        """Run one input and note how it ended."""
        before, fault = peak(), None
        try:
            told = read()
        except PolymodalError as error:
            told = error
        except BaseException as error:  # a panic of a Rust library is no Exception
            if isinstance(error, KeyboardInterrupt | GeneratorExit):
                raise
            told, fault = None, f"{type(error).__name__}: {error!s:.200} ({place_of(error)})"
        for error in told if isinstance(told, list) else [told]:
            if isinstance(error, PolymodalError):
                text = str(error)
                if not text.strip():
                    fault = "an error that says nothing"
                elif "\n" in text and not isinstance(error, ConfigError | PluginError):
                    fault = f"more than one line: {text!r:.200}"
                elif "MemoryError" in text or len(text) > 4000:
                    fault = f"{len(text)} characters: {text:.200}"
                cause = type(error.__cause__).__name__
                ours = not text.startswith(f"{cause}:")
                self.counts[type(error).__name__ if ours else f"{cause} of a library"] += 1
            else:
                self.counts["read"] += 1
        taken = peak() - before
        if fault is None and taken > ROOM + 100 * size:
            fault = f"it takes {taken >> 20} MiB for {size} bytes"
            lower()
        if fault is not None:
            self.faults.setdefault(fault[:60], f"POLYMODAL_FUZZ_SEED={seed}: {fault}")

    def close(self) -> None:
        print(f"{self.name}: {dict(self.counts)}")
        assert not self.faults, f"{self.name}:\n" + "\n".join(self.faults.values())


def seeds(count: int) -> list[int]:
    return [int(ONLY)] if ONLY else list(range(max(count, 1)))


def components(kind: str) -> list[str]:
    found = installed()
    return sorted(
        name
        for owner in found.names()
        for each, name in found.get(owner).components
        if each == kind
    )


# --- Readers


class Anything(Tokenizer):
    """Stands where no tokenizer of the plugin takes what a reader returns."""

    @property
    def spec(self):
        raise NotImplementedError

    def encode(self, raws, *, generators=None):
        return None


def encoded() -> list[bytes]:
    """Return small files of common formats: a reader is fuzzed with those it can read."""
    from PIL import Image

    found = [b"a,b\n1,2\n", json.dumps({"a": [1, 2]}).encode(), zlib.compress(b"abc")]
    picture = Image.fromarray(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3))
    for ending in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"):
        file = io.BytesIO()
        picture.save(file, ending)
        found.append(file.getvalue())
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(np.arange(900, dtype=np.int16).tobytes())
    found.append(file.getvalue())
    for save in (lambda f: np.save(f, np.ones((3, 4))), lambda f: np.savez(f, a=np.ones(3))):
        file = io.BytesIO()
        save(file)
        found.append(file.getvalue())
    return found


def accepted(reading: StreamReading, value) -> bool:
    try:
        return reading.raw(value) is not None
    except UnreadableError:
        return False


def readings_of(name: str):
    """Return a reader's values and how streams read it: with each tokenizer that it is for."""
    plugins = installed()
    values, readings = [], []
    for example in examples_of(plugins, name, "reader"):
        build = Construction(plugins.find(name, "reader"), example.options, plugins)
        values += example.values
        readings.append(StreamReading("x", Anything(), build()))
    owner = name.partition(".")[0]
    for kind, other in plugins.get(owner).components:
        if kind != "tokenizer" or plugins.find(other, kind).load().reader != name:
            continue
        for example in examples_of(plugins, other, kind):
            if example.prepare is None:
                build = Construction(plugins.find(other, kind), example.options, plugins)
                tokenizer = build(context={})
                if not tokenizer.fitted:
                    tokenizer.fit(iter(example.raws))
                readings.append(StreamReading("x", tokenizer, readings[0].reader))
    return values, readings


@pytest.mark.parametrize("name", components("reader"))
def test_a_damaged_value_is_read_or_refused_in_one_line(name, tmp_path):
    values, readings = readings_of(name)
    files = [data for data in encoded() if accepted(readings[0], data)]
    findings = Findings(name)
    lower()
    for seed in seeds(SIZE // 24):
        rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
        sort = rng.random()
        if files and sort < 0.6:
            value = data = broken_bytes(files[rng.integers(len(files))], rng)
            if sort < 0.2:
                value = str(tmp_path / f"{seed}.bin")
                Path(value).write_bytes(data)
        else:
            value = broken(values[rng.integers(len(values))], rng)
            data = value
        reading = readings[rng.integers(len(readings))]

        def read(reading=reading, value=value, seed=seed):
            raw = reading.shrunk(value)
            if raw is None:
                return
            reading.tokenizer.encode([raw])
            reading.tokenizer.encode([raw], generators=[np.random.default_rng(seed)])

        findings.run(seed, size_of(data), read)
    findings.close()


# --- Sources


@pytest.mark.parametrize(
    "name", [name for name in components("source") if name.partition(".")[0] != "demo"]
)
def test_a_damaged_source_is_read_or_refused_in_one_line(name):
    plugins = installed()
    findings = Findings(name)
    for example in examples_of(plugins, name, "source"):
        with prepared(example) as ready:  # what is imported on first use is no input's fault
            build = Construction(plugins.find(name, "source"), ready.options, plugins)
            SplitSource("it", build()).read("train", [0])
        lower()
        for seed in seeds(SIZE // 24):
            rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
            with prepared(example) as ready:
                options = dict(ready.options)
                size = 0
                tops = [Path(t) for t in texts_of(options) if Path(t).is_absolute()]
                files = sorted({f for t in tops for f in [t, *t.rglob("*")] if f.is_file()})
                if example.prepare is None or not files:  # its rows stand in its options
                    key = list(options)[rng.integers(len(options))] if options else "path"
                    options[key] = broken(options.get(key), rng)
                    size = size_of(options)
                    try:  # a config holds what YAML can say
                        options = yaml.safe_load(yaml.safe_dump(options))
                    except (TypeError, ValueError, RecursionError, yaml.YAMLError):
                        continue
                else:
                    file = files[rng.integers(len(files))]
                    size = spoil(file, rng)

                def read(options=options):
                    build = Construction(plugins.find(name, "source"), options, plugins)
                    build.require_options()
                    try:
                        source = SplitSource("it", build())
                    except ValueError as error:  # as the builder of a config has it
                        raise ConfigError([str(error)]) from error
                    source.fields(), source.record(), source.context()
                    return source.read("train", range(min(source.size("train"), 50)))

                findings.run(seed, size, read)
    findings.close()


def texts_of(options) -> list[str]:
    if isinstance(options, dict | list | tuple):
        inside = options.values() if isinstance(options, dict) else options
        return [text for value in inside for text in texts_of(value)]
    return [options] if isinstance(options, str) else []


def spoil(file: Path, rng: np.random.Generator) -> int:
    """Damage a file, or take it away; return its size."""
    data = file.read_bytes()
    if rng.random() < 0.05:
        file.unlink()
        return 0
    damaged = broken_bytes(data, rng)
    if file.suffix in (".json", ".yaml") and rng.random() < 0.6:  # what it says, not how
        value = broken(yaml.safe_load(data), rng)
        try:
            text = json.dumps(value) if file.suffix == ".json" else yaml.safe_dump(value)
            damaged = text.encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, yaml.YAMLError):
            pass
    file.write_bytes(damaged)
    return max(len(data), len(damaged))


# --- Runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of words and patches, with all it writes."""
    rows = [{"text": f"a line of words {n}"} for n in range(8)]
    small = {"width": 16, "depth": 1, "heads": 2}
    config = check_config({
        "streams": {"text": {
            "tokenizer": {"use": "text.wordpiece", "vocabulary_size": 60, "max_tokens": 8},
            "encoder": {"use": "text.transformer", **small},
        }},
        "objectives": {"words": {"use": "masking.tokens", "stream": "text"}},
        "data": {"sources": {"rows": {"use": "data.memory", "rows": rows}}, "batch_size": 4},
        "trainer": {"max_steps": 2, "log_every": 1, "device": "cpu"},
    })  # fmt: skip
    path = tmp_path_factory.mktemp("fuzz") / "run"
    Training(config, path, quiet=True).run()
    return path, config


def test_a_damaged_run_is_loaded_or_refused_in_one_line(trained, tmp_path):
    whole, config = trained
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    findings = Findings("runs")
    lower()
    for seed in seeds(SIZE // 16):
        rng = np.random.default_rng([1, seed])
        run = tmp_path / "run"
        shutil.copytree(whole, run)
        file = run / files[rng.integers(len(files))]
        size = spoil(file, rng)
        if rng.random() < 0.5:  # as a run of before there were any
            for sums in run.rglob("checksums.json"):
                sums.unlink()

        def loaded(run=run):
            load(run).embed("text", ["a line"])

        def told(run=run):
            read_run_config(run)

        def resumed(run=run):
            Training(config, run, resume=True, quiet=True).run()

        inside_model = file.parent.name in ("model", "tokenizers")
        for use in (loaded,) if inside_model else (told, resumed):
            findings.run(seed, size + (1 << 20), use)
        shutil.rmtree(run)
    findings.close()
