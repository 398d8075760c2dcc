"""A step of many modalities against the sum of steps of each: what mixing itself costs.

    python -m benchmarks.modalities

First: forward and backward of one model with all streams, each with its objective. Second: the
same of one model a stream, one after the other, on the same tokens. Twenty-four are four of each
of six kinds.
"""

from typing import Any

import torch

from benchmarks.ratio import Ratio, compare, write
from polymodal import Batch, PretrainingModel, total_loss
from polymodal.config.reading import check_config
from polymodal.runs.build import Builder
from polymodal.testing.toys import toy_tokens

SAMPLES = 16
SIZE = {"width": 96, "depth": 3, "heads": 3}
ENCODERS: dict[str, tuple[dict[str, Any], dict[str, Any], str, float]] = {
    # name: tokenizer, encoder, objective, mean tokens
    "image": (
        {"use": "vision.patches", "size": 32, "patch": 4}, {"use": "vision.vit"},
        "masking.simmim", 64,
    ),
    "video": (
        {"use": "video.tubelets", "size": 32, "frames": 8, "patch": 8},
        {"use": "video.vit"}, "masking.simmim", 64,
    ),
    "text": (
        {"use": "text.wordpiece", "vocabulary_size": 2000}, {"use": "text.transformer"},
        "masking.tokens", 24,
    ),
    "code": (
        {"use": "code.bpe", "vocabulary_size": 2000}, {"use": "code.transformer"},
        "masking.tokens", 100,
    ),
    "genome": ({"use": "genome.bases"}, {"use": "genome.transformer"}, "masking.tokens", 120),
    "sound": (
        {"use": "audio.waveform", "rate": 8000, "frame": 200}, {"use": "audio.transformer"},
        "masking.simmim", 60,
    ),
}  # fmt: skip


def model(names: list[str]) -> PretrainingModel:
    streams, objectives = {}, {}
    for name in names:
        tokenizer, encoder, objective, _ = ENCODERS[name.rstrip("0123456789")]
        streams[name] = {"tokenizer": tokenizer, "encoder": {**encoder, **SIZE}}
        objectives[f"task_{name}"] = {"use": objective, "stream": name}
    config = check_config(
        {
            "streams": streams,
            "objectives": objectives,
            "data": {"sources": {"digits": "demo.digits"}},
            "trainer": {"max_steps": 1, "device": "cpu"},
        }
    )
    return Builder(config).model()


def tokens(name: str, spec: Any) -> Any:
    mean = ENCODERS[name.rstrip("0123456789")][3]
    generator = torch.Generator().manual_seed(len(name))
    spread = torch.rand(SAMPLES, generator=generator)
    return toy_tokens(spec, [max(2, int(mean * (0.5 + float(s)))) for s in spread])


def run(model: PretrainingModel, batch: Batch) -> None:
    total_loss(model(batch), model.weights).backward()


def measure(names: list[str]) -> Ratio:
    torch.manual_seed(0)
    whole, keys = model(names), torch.arange(SAMPLES)
    streams = {name: tokens(name, spec) for name, spec in whole.specs.items()}
    alone = [
        (model([name]), Batch({name: streams[name]}, SAMPLES, keys)) for name in names
    ]  # fmt: skip
    together = Batch(streams, SAMPLES, keys)

    def one_by_one() -> None:
        for each, batch in alone:
            run(each, batch)

    return compare(
        f"step of {len(names)} modalities / sum of single ones",
        lambda: run(whole, together),
        one_by_one,
    )


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    six = list(ENCODERS)
    many = [f"{name}{number}" for number in range(1, 5) for name in six]
    found = [measure(names) for names in (six[:1], six[:2], six[:4], six, many)]
    write("modalities", found)
    return found


if __name__ == "__main__":
    main()
