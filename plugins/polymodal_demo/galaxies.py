"""Galaxies with spectral energy distributions."""

from typing import Any

import numpy as np

from polymodal_demo.generated import GeneratedSource

SIDE = 24  # pixels
WAVELENGTHS = np.linspace(4000, 12000, 16)  # angstrom, observed
_BREAK = 4000  # angstrom, at rest: older stars shine less below it
_LINES = ((3727, 0.6), (5007, 1.2), (6563, 0.8))  # of forming stars, and how strong
_BULGE, _DISC = (1.0, 0.8, 0.55), (0.75, 0.75, 0.8)  # colours


class Galaxies(GeneratedSource):
    """Images of galaxies, 24 x 24, each with a coarse spectrum; both follow from hidden numbers.

    A galaxy is a bulge (de Vaucouleurs' profile) and a disc (exponential) at a random angle and
    axis ratio, with noise. The heavier it is, the larger its bulge, the wider it is and the older
    its stars; the further away, the smaller and fainter it looks. The spectrum has a break at 4000
    angstrom that is deeper for older stars, lines that are stronger for young ones, and a slope
    from dust, all moved to the red by 1 + redshift, with noise. Relations scatter, so that the
    image tells only part of redshift and mass.

    What can be learned: redshift is where break and lines lie, whatever their strength, the slope
    and the brightness, which no weighted sum of the spectrum tells. The image helps by size and
    bulge.

    Fields: `image` (uint8 [24, 24, 3]), `sed` (`{"values" [16], "positions" [16]}`: flux, and
    wavelengths in angstrom), `redshift` (0.1 to 1.6), `mass` (logarithm to base 10 of solar masses,
    9 to 11.5).

    Args:
        samples: how many.
        seed: of everything drawn.
    """

    fields = ("image", "sed", "redshift", "mass")

    def __init__(self, *, samples: int = 4000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one galaxy."""
        redshift = generator.uniform(0.1, 1.6)
        mass = generator.uniform(9, 11.5)
        weight = mass - 10.25  # -1.25 to 1.25
        age = _share(1.6 * weight + generator.normal(0, 0.5))
        bulge = _share(1.6 * weight + generator.normal(0, 0.5))
        size = 6.5 * 10 ** (0.18 * weight + generator.normal(0, 0.05)) / (0.6 + 0.6 * redshift)
        light = 10 ** (0.25 * weight + generator.normal(0, 0.05)) / (0.6 + 0.6 * redshift)
        return {
            "image": _image(size, light, bulge, generator),
            "sed": {
                "values": _spectrum(redshift, light, age, generator).astype(np.float32),
                "positions": WAVELENGTHS.astype(np.float32),
            },
            "redshift": float(redshift),
            "mass": float(mass),
        }


def _share(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def _image(size: float, light: float, bulge: float, generator: np.random.Generator) -> np.ndarray:
    angle = generator.uniform(0, np.pi)
    flatness = generator.uniform(0.35, 1)
    centre = (SIDE - 1) / 2 + generator.normal(0, 0.3, 2)
    y, x = np.indices((SIDE, SIDE)) - centre[:, None, None]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) / flatness
    disc = np.exp(-1.68 * np.hypot(along, across) / size)
    # The bulge is rounder and half as wide; softened, for de Vaucouleurs' peak is sharp.
    radius = np.hypot(along, across * np.sqrt(flatness)) / (0.5 * size)
    core = np.exp(-7.67 * ((radius**2 + 0.05) ** 0.125 - 1)) / 12
    colours = bulge * np.outer(core.ravel(), _BULGE) + (1 - bulge) * np.outer(disc.ravel(), _DISC)
    canvas = 12 + 200 * light * colours.reshape(SIDE, SIDE, 3)
    canvas += generator.normal(0, 4, canvas.shape)
    return canvas.clip(0, 255).round().astype(np.uint8)


def _spectrum(
    redshift: float, light: float, age: float, generator: np.random.Generator
) -> np.ndarray:
    rest = WAVELENGTHS / (1 + redshift)
    depth = 0.7 * age
    flux = 1 - depth / (1 + np.exp((rest - _BREAK) / 60))
    flux *= (rest / 5000) ** generator.normal(0, 1)  # dust
    for line, strength in _LINES:
        flux += strength * (1 - age) * np.exp(-0.5 * ((rest - line) / 130) ** 2)
    return np.asarray(light * flux * (1 + generator.normal(0, 0.05, len(flux))))
