"""A CLIP step against open_clip's own training loop, on the same weights and batches.

    python -m benchmarks.clip

First: our loop with open_clip's towers as encoders and our InfoNCE. Second: open_clip's
`train_one_epoch` with ClipLoss, captions padded to 77. Twice: with captions that fill the context,
and with captions of 8 to 24 tokens, which ours leaves at their length.
"""

import argparse
import itertools
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from open_clip_train.train import train_one_epoch

from benchmarks.ratio import Ratio, compare, write
from polymodal import Batch
from polymodal.config.reading import check_config
from polymodal.data.sampling import Refs
from polymodal.training.train import Training

STEPS, SAMPLES, IMAGE, PATCH = 4, 32, 96, 16
VISION = {"image_size": IMAGE, "layers": 6, "width": 192, "head_width": 64, "patch_size": PATCH}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 6}


def ours(folder: Path) -> Training:
    name = f"local-dir:{folder}"
    config = check_config(
        {
            "streams": {
                "image": {
                    "tokenizer": {
                        "use": "vision.patches", "size": IMAGE, "patch": PATCH, "normalize": "clip",
                    },
                    "encoder": {"use": "vision.open_clip", "model": name},
                },
                "text": {
                    "tokenizer": {"use": "text.open_clip"},
                    "encoder": {"use": "text.open_clip", "model": name},
                },
            },
            "objectives": {
                "clip": {
                    "use": "contrastive.infonce", "streams": ["image", "text"], "dim": 128,
                    "heads": "none",
                }
            },
            "data": {"sources": {"digits": "demo.digits"}, "batch_size": SAMPLES},
            "trainer": {"max_steps": STEPS, "log_every": STEPS, "device": "cpu"},
            "optimizer": {
                "schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "clip": None,
            },
        }
    )  # fmt: skip
    return Training(config, folder / "run", quiet=True)


def theirs(folder: Path, run: Training) -> torch.nn.Module:
    """Build the library's model with our weights."""
    model: Any = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    image: Any = run.model.encoder("image")
    text: Any = run.model.encoder("text")
    model.visual.load_state_dict(image.tower.visual.state_dict())
    model.token_embedding.load_state_dict(text.stem.table.state_dict())
    model.transformer.resblocks.load_state_dict(text.blocks.state_dict())
    model.ln_final.load_state_dict(text.head.norm.state_dict())
    with torch.no_grad():
        model.positional_embedding.copy_(text.stem.places)
        model.text_projection.copy_(text.head.projection)
        model.logit_scale.fill_(float(run.model.objective("clip").log_scale))  # type: ignore[arg-type]
    model.output_dict = True
    found: torch.nn.Module = model
    return found


class Loader(list[tuple[torch.Tensor, torch.Tensor]]):
    """Batches as `train_one_epoch` reads them."""

    num_batches, num_samples = STEPS, STEPS * SAMPLES

    @property
    def dataloader(self) -> "Loader":
        """Itself."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every epoch has the same batches."""


ARGUMENTS = argparse.Namespace(
    device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True,
    horovod=False, grad_clip_norm=None, rank=0, local_rank=0, distributed=False, world_size=1,
    log_every_n_steps=10**6, batch_size=SAMPLES, wandb=False,
)  # fmt: skip


def made(run: Training, words: tuple[int, int]) -> tuple[list[tuple[Refs, list[Batch]]], Loader]:
    """Return the same batches for both: images of noise, captions of so many words."""
    generator = np.random.default_rng(0)
    patches, tokenizer = run.tokenizers["image"], run.tokenizers["text"]
    mean, std = (torch.tensor(each).float() for each in patches.statistics)  # type: ignore[attr-defined]
    packed, padded = [], Loader()
    refs = run.mixture.draw(0, SAMPLES)
    for _ in range(STEPS):
        images = generator.integers(0, 256, (SAMPLES, IMAGE, IMAGE, 3), dtype=np.uint8)
        texts = [
            " ".join(generator.choice(["a", "cat", "dog", "red"], generator.integers(*words)))
            for _ in range(SAMPLES)
        ]
        text = tokenizer.encode(texts)
        streams = {"image": patches.encode(list(images)), "text": text}
        keys = torch.from_numpy(generator.integers(0, 2**62, SAMPLES))
        packed.append((refs, [Batch(streams, SAMPLES, keys, ("digits",) * SAMPLES)]))
        pixels = ((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
        rows = text.padded()[0]
        padded.append((pixels, torch.nn.functional.pad(rows, (0, 77 - rows.shape[1]))))
    return packed, padded


def measure(folder: Path, name: str, words: tuple[int, int]) -> Ratio:
    run = ours(folder)
    packed, padded = made(run, words)
    run.batches = lambda: itertools.cycle(packed)  # type: ignore[method-assign]
    run.save = lambda: None  # type: ignore[method-assign]
    run.save_model = lambda: None  # type: ignore[method-assign]
    library, loss = theirs(folder, run), ClipLoss()
    options = {"lr": 1e-4, "betas": run.config.optimizer.betas, "eps": run.config.optimizer.epsilon}
    options |= {"weight_decay": 0.0, "fused": True}
    optimizer = torch.optim.AdamW(library.parameters(), **options)  # type: ignore[arg-type]
    for group in run.optimization.optimizers["main"].param_groups:
        group["lr"] = 1e-4

    def step() -> None:
        run.step = 0
        run._train()

    def epoch() -> None:
        train_one_epoch(library, {"train": padded}, loss, 0, optimizer, None, None, None, ARGUMENTS)

    for number, (_, (batch,)) in enumerate(packed):
        found = run.model(batch, number=number)["clip"]
        images, texts = padded[number]
        wanted = loss(**library(images, texts)).item()
        off = abs(found.total.item() / SAMPLES - wanted) / wanted
        assert off < 1e-6, off
    print(f"{name}: losses of {STEPS} batches are within 1e-6")
    return compare(f"CLIP step, {name}: ours / open_clip", step, epoch, rounds=11)


def main() -> list[Ratio]:
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    found = []
    for name, words in (("captions of 77 tokens", (90, 91)), ("captions at length", (6, 23))):
        with tempfile.TemporaryDirectory() as folder:
            config = {"embed_dim": 128, "vision_cfg": VISION, "text_cfg": TEXT}
            file = Path(folder) / "open_clip_config.json"
            file.write_text(json.dumps({"model_cfg": config}))
            found.append(measure(Path(folder), name, words))
    write("clip", found)
    return found


if __name__ == "__main__":
    main()
