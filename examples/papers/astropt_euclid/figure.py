"""Draws patches.svg: the order of the patches, and what a run predicts for each from those before.

Its argument is a run: "runs/astropt_euclid/image and sed/seed-0".
"""

import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch

import polymodal
from polymodal import Batch, Step
from polymodal_demo.galaxies import WAVELENGTHS, Galaxies

STREAMS = ("image", "sed")


def main(directory: str) -> None:
    """Draw the figure from a run with images and spectra."""
    matplotlib.rcParams["svg.hashsalt"] = "astropt"  # the same file each time
    run = polymodal.load(directory)
    galaxy = Galaxies(samples=50, seed=7).row(11)
    readings = run.probe().readings
    tokens = {
        name: readings[name].tokenizer.encode([readings[name].raw(galaxy[name])])
        for name in STREAMS
    }
    step = Step(run.model.eval(), Batch(tokens, 1, torch.zeros(1, dtype=torch.int64)))
    with torch.no_grad():
        predicted = run.model.objective("next").predict(step)
    places = tokens["image"].layout.positions
    image = _canvas(tokens["image"].values, places)
    # The first patch of the sequence is predicted from nothing: left blank.
    guess = torch.cat([torch.zeros(1, 108), predicted["image"]])
    fig, axes = plt.subplots(1, 4, figsize=(11, 2.8), width_ratios=[1, 1, 1, 1.5])
    axes[0].imshow(galaxy["image"])
    axes[0].plot(places[:, 1] * 6 + 2.5, places[:, 0] * 6 + 2.5, color="white", linewidth=1)
    for number, (row, column) in enumerate(places.tolist()):
        axes[0].text(column * 6 + 2.5, row * 6 + 2.5, number, color="orange", ha="center", size=8)
    axes[0].set_title("order of patches")
    for axis, shown, title in (
        (axes[1], image, "standardised patches"),
        (axes[2], _canvas(guess, places), "predicted"),
    ):
        axis.imshow(shown.mean(axis=2), cmap="gray", vmin=-2, vmax=3)
        axis.set_title(title)
    for axis in axes[:3]:
        axis.set_axis_off()
    axes[3].plot(WAVELENGTHS, tokens["sed"].values.flatten(), "o-", label="spectrum")
    axes[3].plot(WAVELENGTHS, predicted["sed"].flatten(), "x--", label="predicted")
    axes[3].set_xlabel("wavelength (angstrom)")
    axes[3].set_title(f"redshift {galaxy['redshift']:.2f}")
    axes[3].legend()
    fig.tight_layout()
    fig.savefig(Path(__file__).with_name("patches.svg"), metadata={"Date": None})


def _canvas(patches: torch.Tensor, places: torch.Tensor) -> np.ndarray:
    canvas = np.zeros((4, 6, 4, 6, 3))
    for values, (row, column) in zip(patches, places.tolist(), strict=True):
        canvas[row, :, column] = values.reshape(6, 6, 3)
    return canvas.reshape(24, 24, 3)


if __name__ == "__main__":
    main(sys.argv[1])
