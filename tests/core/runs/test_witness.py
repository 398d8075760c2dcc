"""A run saved before hiding, replacing, targets, heads and poolers were parts.

`witness/` was written by three steps on 24 samples of demo.digits, with the options of that time
(`units: word`, `pool: attention`, masking.simmim and masking.codes as classes of their own);
`embedded.json` holds what it made of the values below then.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import polymodal

WITNESS = Path(__file__).parent / "witness"


def test_a_run_of_the_old_spelling_loads_and_gives_the_vectors_it_gave():
    for package in ("timm", "tokenizers", "sklearn"):
        pytest.importorskip(package)
    assert "units: word" in (WITNESS / "config.yaml").read_text()  # as it was written
    run = polymodal.load(WITNESS)
    told = json.loads((WITNESS / "embedded.json").read_text())
    images = (np.arange(3 * 8 * 8 * 3).reshape(3, 8, 8, 3) * 37 % 256).astype(np.uint8)
    # An empty text, the third then, has no vector any more.
    for stream, values in (("text", ["a red seven", "two in blue"]), ("image", list(images))):
        then = told[stream][: len(values)]
        np.testing.assert_allclose(run.embed(stream, values), then, atol=1e-6, rtol=0)


def test_every_weight_of_an_old_objective_finds_its_new_place():
    for package in ("timm", "tokenizers", "sklearn"):
        pytest.importorskip(package)
    from safetensors.torch import load_file

    saved = load_file(WITNESS / "model" / "model.safetensors")
    model = polymodal.load(WITNESS).model
    for name, old, new in (
        ("words", "bias", "head.bias"),
        ("words", "transform.0.weight", "head.transform.0.weight"),
        ("pixels", "mask", "replace.vector"),
        ("pixels", "head.weight", "head.linear.weight"),
        ("codes", "head.bias", "head.linear.bias"),
        ("codes", "codebook.centres", "targets.codebook.centres"),
        ("kind", "pool.hidden.weight", "pool.hidden.weight"),
    ):
        found = model.objective(name).state_dict()[new]
        assert torch.equal(found, saved[f"objectives.{name}.{old}"]), (name, old)
        assert found.any()
