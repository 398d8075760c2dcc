import pickle

import numpy as np

from polymodal import installed
from polymodal_demo.galaxies import WAVELENGTHS, Galaxies
from polymodal_series.patches import SeriesPatches
from polymodal_series.reader import SeriesReader
from polymodal_vision.image import ImageReader
from polymodal_vision.patches import Patches


def test_a_galaxy_is_the_same_each_time_and_another_with_another_seed():
    source, again = Galaxies(samples=3), pickle.loads(pickle.dumps(Galaxies(samples=30)))
    assert pickle.dumps(source.row(2)) == pickle.dumps(again.row(2))
    assert pickle.dumps(source.row(2)) != pickle.dumps(Galaxies(samples=3, seed=1).row(2))
    assert tuple(source.row(0)) == source.columns()
    assert installed().find("demo.galaxies", "source").load() is Galaxies


def test_readers_and_tokenizers_take_every_galaxy():
    rows = Galaxies(samples=20).rows(range(20))
    patches = Patches(size=24, patch=6, order="spiral", standardize=True)
    images = patches.encode([ImageReader()(row["image"]) for row in rows])
    series = SeriesPatches(patch=2, origin=4000, scale=1067)
    seds = series.encode([SeriesReader()(row["sed"]) for row in rows])
    assert set(images.layout.lengths) == {16}
    assert set(seds.layout.lengths) == {8}
    assert seds.layout.positions[:8, 0].diff().round(decimals=2).tolist() == [1.0] * 7


def test_the_break_lies_at_4000_angstrom_times_one_plus_redshift():
    rows = Galaxies(samples=3000).rows(range(3000))
    heavy = [row for row in rows if row["mass"] > 11 and row["redshift"] > 0.3]
    spectra = np.stack([row["sed"]["values"] for row in heavy])
    steps = np.diff(np.log(spectra), axis=1)  # the steepest rise, whatever the brightness
    found = (WAVELENGTHS[:-1] + WAVELENGTHS[1:])[steps.argmax(axis=1)] / 2
    expected = 4000 * (1 + np.array([row["redshift"] for row in heavy]))
    near = np.abs(found - expected) < WAVELENGTHS[1] - WAVELENGTHS[0]
    assert near.mean() > 0.6


def test_images_tell_part_of_redshift_and_mass():
    rows = Galaxies(samples=1000).rows(range(1000))
    light = np.log([row["image"].astype(float).sum() for row in rows])
    for label, sign in (("mass", 1), ("redshift", -1)):
        linked = np.corrcoef(light, [row[label] for row in rows])[0, 1] * sign
        assert 0.2 < linked < 0.9
