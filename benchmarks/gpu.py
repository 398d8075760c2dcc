"""How much of a GPU's arithmetic pre-training uses (MFU), and what mixing modalities costs there.

    python -m benchmarks.gpu             on a GPU, the sizes that count
    python -m benchmarks.gpu --toy       anywhere, tiny sizes: that it runs

FLOPs are those of forward and backward over the tokens that count, by torch's FLOP counter on one
sample (recomputation is not useful work); the peak is 790 TFLOP/s, of an H100 in bfloat16. A mix is
compared with the sum of steps of its parts.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ratio import Ratio, write
from polymodal import Batch, Config
from polymodal.config.reading import check_config
from polymodal.runs.build import Builder
from polymodal.testing.toys import toy_tokens
from polymodal.training.optimization import Optimization

PEAK = 790e12


@dataclass(frozen=True)
class Case:
    """A model, and how many samples and tokens a sample its step has."""

    name: str
    goal: float  # of MFU
    samples: int
    tokens: dict[str, int]  # a sample, by stream
    streams: dict[str, Any]
    objectives: dict[str, Any]


def image(size: str, patch: int, pixels: int = 224, **encoder: Any) -> dict[str, Any]:
    return {
        "tokenizer": {"use": "vision.patches", "size": pixels, "patch": patch},
        "encoder": {"use": "vision.vit", "size": size, **encoder},
    }


def text(size: str, **encoder: Any) -> dict[str, Any]:
    return {
        "tokenizer": {"use": "text.wordpiece", "vocabulary_size": 30_000, "max_tokens": 512},
        "encoder": {"use": "text.transformer", "size": size, **encoder},
    }


def cases(*, toy: bool) -> list[Case]:
    base, small = ("pico", "pico") if toy else ("base", "small")
    many = 4 if toy else 1024

    def clip(patch: int, goal: float) -> Case:
        tokens = {"image": (224 // patch) ** 2, "text": 32}
        streams = {
            "image": image(base, patch),
            "text": text(small, width=512) if not toy else text(small),
        }
        task = {"use": "contrastive.infonce", "streams": ["image", "text"], "dim": 512}
        return Case(f"CLIP B/{patch}", goal, many, tokens, streams, {"clip": task})

    mae = {"use": "masking.mae", "stream": "image"}
    words = {"use": "masking.tokens", "stream": "text"}
    genome = {
        "tokenizer": {"use": "genome.bases"},
        "encoder": {"use": "genome.transformer", "size": base},
    }
    mix = {"image": image(base, 16), "text": text(base), "dna": genome}
    tasks = {"mae": mae, "words": words, "bases": {"use": "masking.tokens", "stream": "dna"}}
    return [
        clip(32, 0.45),
        clip(16, 0.55),
        Case("MAE B", 0.0, many, {"image": 196}, {"image": image(base, 16)}, {"mae": mae}),
        Case("MLM 512", 0.6, many // 4, {"text": 512}, {"text": text(base)}, {"words": words}),
        Case("mix", 0.0, many // 4, {"image": 196, "text": 128, "dna": 512}, mix, tasks),
    ]  # fmt: skip


def config_of(case: Case, device: str, objectives: dict[str, Any]) -> Config:
    streams = {
        name: stream
        for name, stream in case.streams.items()
        if any(name in (o.get("stream"), *o.get("streams", ())) for o in objectives.values())
    }
    precision = "bfloat16" if device == "cuda" else "float32"
    return check_config(
        {
            "streams": streams,
            "objectives": objectives,
            "data": {"sources": {"digits": "demo.digits"}},
            "trainer": {
                "max_steps": 100, "device": device, "precision": precision,
                "compile": device == "cuda",
            },
        }
    )  # fmt: skip


def batch_of(case: Case, model: Any, samples: int, device: str) -> Batch:
    streams = {
        name: toy_tokens(spec, [case.tokens[name]] * samples) for name, spec in model.specs.items()
    }
    return Batch(streams, samples, torch.arange(samples), ("digits",) * samples).to(device)


def flops(case: Case, config: Config) -> float:
    """Return the FLOPs of one sample, forward and backward."""
    model = Builder(config).model()
    with FlopCounterMode(display=False) as counter:
        losses = model(batch_of(case, model, 2, "cpu"))
        torch.stack([loss.total for loss in losses.values()]).sum().backward()
    return counter.get_total_flops() / 2


def seconds(run: Callable[[], object], device: str, steps: int) -> float:
    for _ in range(3 if steps > 1 else 0):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def step_seconds(case: Case, objectives: dict[str, Any], device: str, steps: int) -> float:
    config = config_of(case, device, objectives)
    model = Builder(config).model().to(device)
    if config.trainer.compile:
        for part in model.modules():
            if hasattr(part, "compile_blocks"):
                part.compile_blocks()
    optimization = Optimization(model, config, torch.device(device))
    batch, names = batch_of(case, model, case.samples, device), list(objectives)

    def step() -> None:
        optimization.backward([batch], names, number=1, total=100)
        optimization.apply([batch], names)

    return seconds(step, device, steps)


def main(arguments: list[str] | None = None) -> list[Ratio]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--toy", action="store_true")
    toy = parser.parse_args(arguments).toy
    if not toy and not torch.cuda.is_available():
        print("benchmarks.gpu: no GPU here; --toy runs tiny sizes anywhere")
        return []
    device = "cuda" if torch.cuda.is_available() and not toy else "cpu"
    found = []
    for case in cases(toy=toy):
        taken = step_seconds(case, case.objectives, device, 1 if toy else 20)
        used = flops(case, config_of(case, "cpu", case.objectives)) * case.samples / taken
        share = used / PEAK
        print(
            f"{case.name}: {1000 * taken:.1f} ms a step, {case.samples / taken:.0f} samples/s, "
            f"{used / 1e12:.3g} TFLOP/s, MFU {share:.1%}"
            + (f" (goal {case.goal:.0%})" if case.goal else "")
        )
        found.append(Ratio(f"{case.name}, MFU", share, share, share, taken, taken, 1))
        if len(case.objectives) > 1:
            parts = sum(
                step_seconds(case, {name: task}, device, 1 if toy else 20)
                for name, task in case.objectives.items()
            )
            print(f"{case.name}: throughput {parts / taken:.3f} of its parts (goal 0.95)")
            name = f"{case.name} / sum of its parts"
            found.append(Ratio(name, taken / parts, taken / parts, taken / parts, taken, parts, 1))
    if not toy:
        write("gpu", found)
    return found


if __name__ == "__main__":
    main()
