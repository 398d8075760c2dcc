"""The control: networks of like size, trained on the labels alone. Prints a Markdown table.

A convolutional network reads the image, one over wavelengths the spectrum; with both inputs their
vectors are joined. Beside them, ridge regression on the raw inputs.
"""

import argparse
from statistics import mean, stdev

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from polymodal.config.shape import SplitConfig
from polymodal.data.splits import SplitSource
from polymodal_demo.galaxies import Galaxies

INPUTS = {"image and sed": ("image", "sed"), "image": ("image",)}
STEPS = 300


class Network(nn.Module):
    """A convolutional tower for each input, and a linear layer over what they give."""

    def __init__(self, inputs: tuple[str, ...]):
        super().__init__()
        self.towers = nn.ModuleDict({name: _tower(name) for name in inputs})
        self.out = nn.Linear(128 * len(inputs), 1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return a number a sample."""
        return self.out(torch.cat([t(inputs[n]) for n, t in self.towers.items()], dim=1))[:, 0]


def _tower(name: str) -> nn.Module:
    if name == "image":
        layers: list[nn.Module] = []
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
    layers = []
    for before, after in ((1, 32), (32, 64), (64, 128)):
        layers += [nn.Conv1d(before, after, 3, padding=1), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(512, 128))


def catalogue(seed: int, split: str) -> dict[str, Tensor]:
    """Return the catalogue of small.yaml: inputs of unit size, and labels."""
    source = SplitSource(
        "catalogue", Galaxies(samples=1040, seed=seed), split=SplitConfig(validation=0.9615)
    )
    rows = source.read(split, range(source.size(split)))
    images = np.stack([row["image"] for row in rows]).transpose(0, 3, 1, 2) / 64 - 0.5
    seds = np.stack([row["sed"]["values"] for row in rows])
    seds = (seds - seds.mean(axis=1, keepdims=True)) / seds.std(axis=1, ddof=1, keepdims=True)
    found = {"image": images, "sed": seds[:, None]}
    found |= {label: np.array([row[label] for row in rows]) for label in ("redshift", "mass")}
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in found.items()}


def supervised(inputs: tuple[str, ...], label: str, seed: int) -> float:
    """Return R^2 on the scored rows of a network trained on the labelled ones."""
    torch.manual_seed(seed)
    fit, scored = catalogue(seed, "train"), catalogue(seed, "validation")
    centre, spread = fit[label].mean(), fit[label].std()
    network = Network(inputs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        turned = {**fit, "image": _turned(fit["image"])}
        loss = (network(turned) - (fit[label] - centre) / spread).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return explained(network(scored) * spread + centre, scored[label])


def _turned(images: Tensor) -> Tensor:
    """Return the images turned by a random quarter and mirrored or not: labels stay the same."""
    turn, mirror = torch.randint(4, ()).item(), torch.rand(()) < 0.5
    images = torch.rot90(images, int(turn), (2, 3))
    return images.flip(3) if mirror else images


def raw(inputs: tuple[str, ...], label: str, seed: int) -> float:
    """Return R^2 on the scored rows of ridge regression on the raw inputs."""
    fit, scored = catalogue(seed, "train"), catalogue(seed, "validation")
    model = make_pipeline(StandardScaler(), RidgeCV(10.0 ** np.arange(-3, 6)))
    flat = [
        torch.cat([each[n].flatten(1) for n in inputs], dim=1).numpy() for each in (fit, scored)
    ]
    return explained(torch.tensor(model.fit(flat[0], fit[label]).predict(flat[1])), scored[label])


def explained(predicted: Tensor, truth: Tensor) -> float:
    """Return the share of the variance explained."""
    return float(1 - (predicted - truth).square().mean() / truth.var(correction=0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    print("| label | inputs | supervised | ridge on raw inputs |\n| --- | --- | ---: | ---: |")
    for label in ("redshift", "mass"):
        for name, inputs in INPUTS.items():
            cells = []
            for method in (supervised, raw):
                found = [method(inputs, label, seed) for seed in seeds]
                cells.append(f"{mean(found):.3f} ± {stdev(found):.3f}")
            print(f"| {label} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
