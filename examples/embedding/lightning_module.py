"""A polymodal model inside Lightning: its Trainer, loggers and callbacks, our streams and losses.

    pip install "polymodal[vision,text,demo]" lightning
    python examples/embedding/lightning_module.py

Images of digits and captions for them, contrasted as in CLIP. The tokenizers pack in the data
loader's `collate_fn`, so that nothing is padded there either.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from polymodal import (
    Batch,
    PretrainingModel,
    Step,
    StreamInfo,
    Tokenizer,
    TransformerEncoder,
    total_loss,
)
from polymodal_contrastive.infonce import InfoNCE
from polymodal_demo.digits import Digits
from polymodal_text.wordpiece import WordPiece
from polymodal_vision.patches import Patches


class Pretraining(lightning.LightningModule):
    """Any `PretrainingModel` as a LightningModule."""

    def __init__(self, model: PretrainingModel, *, rate: float):
        super().__init__()
        self.model = model
        self.rate = rate

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        self.present = [name for name, tokens in batch.streams.items() if tokens.layout.tokens]
        losses = self.model(batch, number=self.global_step, total=self.trainer.max_steps)
        for name, loss in losses.items():
            for metric, (value, count) in loss.metrics.items():
                share = torch.as_tensor(value / max(float(count), 1.0))
                self.log(f"{name}/{metric}", share, batch_size=batch.samples, prog_bar=True)
        return total_loss(losses, self.model.weights)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # AdamW would move the encoder of a stream that the batch did not have.
        self.model.forget_absent(self.present, self.model.objectives)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        for name in self.model.objectives:  # EMA teachers, queues, bounds of temperatures
            step = Step(self.model, batch, number=self.global_step - 1)
            self.model.objective(name).after_update(step)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _: int) -> Batch:
        return batch.to(device, non_blocking=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=self.rate)


def packing(tokenizers: Mapping[str, Tokenizer]) -> Any:
    """Return a collate function: rows of a data set in, a packed batch out."""

    def collate(rows: Sequence[Mapping[str, Any]]) -> Batch:
        streams = {
            name: tokenizer.encode([row.get(name) for row in rows])
            for name, tokenizer in tokenizers.items()
        }
        return Batch(streams, len(rows), torch.tensor([row["number"] for row in rows]))

    return collate


def main(steps: int = 60) -> None:
    torch.manual_seed(0)
    rows = [{**row, "number": number} for number, row in enumerate(Digits().rows(range(512)))]
    tokenizers = {"image": Patches(size=32, patch=8), "text": WordPiece(vocabulary_size=200)}
    tokenizers["text"].fit(row["text"] for row in rows)
    specs = {name: tokenizer.spec for name, tokenizer in tokenizers.items()}
    encoders = {name: TransformerEncoder(spec, width=64, depth=1) for name, spec in specs.items()}
    info = {name: StreamInfo(spec, encoders[name].width) for name, spec in specs.items()}
    align = InfoNCE(info, streams=["image", "text"], dim=32, same="text")
    model = PretrainingModel(
        {name: name for name in encoders}, encoders, specs, objectives={"align": align}
    )
    collate = packing(tokenizers)
    held_out = collate(rows[-64:])
    before = mean_loss(model, held_out)
    trainer = lightning.Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    loader = DataLoader(rows[:-64], batch_size=64, shuffle=True, drop_last=True, collate_fn=collate)
    trainer.fit(Pretraining(model, rate=2e-3), loader)
    after = mean_loss(model.cpu(), held_out)
    print(f"mean loss on 64 pairs never seen: {before:.2f} before, {after:.2f} after")


@torch.no_grad()
def mean_loss(model: PretrainingModel, batch: Batch) -> float:
    """Return the loss of a batch, without dropout."""
    loss = total_loss(model.eval()(batch), model.weights)
    model.train()
    return float(loss)


if __name__ == "__main__":
    main()
