import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from polymodal_pretext.rotation import TURNS, Rotation, turned


def model_of(toys):
    return toys.model({"image": toys.PLANE}, objective=lambda info: Rotation(info, stream="image"))


def rotated(toys):
    """A batch whose rotations are told by a mark in the values."""
    streams = {}
    for turns in range(TURNS):
        tokens = toys.plane_tokens([2, 0, 2, 1], seed=turns)
        mark = torch.zeros(4).index_fill(0, torch.tensor([turns]), 3.0)
        name = "image" if not turns else f"objective/turned_{turns}"
        streams[name] = tokens.with_rows(tokens.values + mark)
    return replace(toys.batch(image=streams["image"]), streams=streams)


def test_a_turn_is_to_the_left_and_four_are_none():
    image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    once = turned(image, {}, np.random.default_rng(0), turns=1)
    assert (once[0, 0] == image[0, 1]).all() and (once[1, 0] == image[0, 0]).all()
    clip = np.stack([image, image + 1])
    assert (turned(clip, {}, np.random.default_rng(0), turns=1)[0] == once).all()
    for _ in range(3):
        once = turned(once, {}, np.random.default_rng(0), turns=1)
    assert (once == image).all()


def test_all_rotations_are_scored_and_chance_is_ln_4(toys):
    model, batch = model_of(toys), rotated(toys)
    objective = model.objective("objective")
    assert set(objective.views()) == {"turned_1", "turned_2", "turned_3"}
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.zero_()
    found = model(batch)["objective"]
    assert found.count == 12 == objective.count(toys.step(model, batch))
    assert found.total.item() / 12 == pytest.approx(math.log(4))


def test_the_mark_of_a_rotation_is_learned(toys):
    model, batch = model_of(toys), rotated(toys)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for number in range(40):
        loss = model(batch, number=number)["objective"]
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    right, count = model(batch)["objective"].metrics["accuracy"]
    assert right == count


def test_what_does_not_lie_in_a_plane_is_refused(toys):
    with pytest.raises(ValueError, match="positions on one axis"):
        Rotation(toys.info(sound=8), stream="sound")
    with pytest.raises(ValueError, match="Did you mean 'sound'"):
        Rotation(toys.info(sound=8), stream="soud")
