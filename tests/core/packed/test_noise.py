"""Noise by hashing: the same for a sample wherever it lies, and even."""

import torch

from polymodal.packed.layout import Layout
from polymodal.packed.noise import hash_words, mix, normal, uniform


def noise(keys, layout, **changed):
    options = {"seed": 1, "step": 2, "name": "mask"} | changed
    return uniform(torch.tensor(keys, dtype=torch.int64), layout, **options)


def test_a_sample_draws_the_same_numbers_in_any_batch():
    alone = noise([42], Layout.of([4]))
    among = noise([7, 42, 9], Layout.of([3, 4, 2]))
    assert torch.equal(among[3:7], alone)
    assert torch.equal(noise([42], Layout.of([2])), alone[:2])


def test_segments_of_one_sample_go_on_counting():
    whole = noise([3, 42], Layout.of([1, 5]))
    parts = noise([3, 42], Layout.of([2, 1, 3], owner=[1, 0, 1], samples=2))
    assert torch.equal(torch.cat([parts[:2], parts[3:]]), whole[1:])
    assert torch.equal(parts[2:3], whole[:1])


def test_seed_step_name_and_sample_each_change_the_numbers():
    layout = Layout.of([50])
    first = noise([42], layout)
    others = [
        noise([42], layout, seed=2),
        noise([42], layout, step=3),
        noise([42], layout, name="order"),
        noise([43], layout),
    ]
    for other in others:
        assert (first != other).float().mean() > 0.95


def test_numbers_are_even_and_uncorrelated_between_neighbours():
    drawn = noise(list(range(200)), Layout.of([50] * 200)).double()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=10, min=0, max=1)
    assert ((counts - 1000).abs() < 5 * 1000**0.5).all()  # five standard deviations
    rows = drawn.reshape(200, 50)
    for left, right in [(rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:])]:
        pair = torch.stack([left.flatten(), right.flatten()])
        assert torch.corrcoef(pair)[0, 1].abs() < 5 / 10_000**0.5


def test_mix_is_splitmix64():
    # The first two outputs of Vigna's splitmix64.c from seed 1234567, as signed numbers.
    state, step = 1234567, 0x9E3779B97F4A7C15
    expected = [6457827717110365317, 3203168211198807973]
    for number, wanted in enumerate(expected, start=1):
        word = (state + number * step) % 2**64
        word = word - 2**64 if word >= 2**63 else word
        assert int(mix(torch.tensor(word))) == wanted


def test_words_do_not_run_together():
    assert hash_words("ab", "c") != hash_words("a", "bc")
    assert hash_words(1, 2, "x") == hash_words(1, 2, "x")


def test_no_tokens_draw_nothing():
    assert noise([], Layout.empty(0)).shape == (0,)
    assert noise([1, 2], Layout.empty(2)).shape == (0,)


def normal_noise(keys, layout, width):
    keys = torch.tensor(keys, dtype=torch.int64)
    return normal(keys, layout, width, seed=1, step=2, name="disturb")


def test_normal_noise_is_normal_and_its_columns_are_unrelated():
    drawn = normal_noise(list(range(200)), Layout.of([25] * 200), 4).double()
    assert drawn.shape == (5000, 4)
    assert (drawn.mean(dim=0).abs() < 5 / 5000**0.5).all()
    assert ((drawn.std(dim=0) - 1).abs() < 5 / 10_000**0.5).all()
    within = (drawn.abs() < 1).double().mean()
    assert abs(within - 0.6827) < 5 * (0.6827 * 0.3173 / 20_000) ** 0.5
    related = torch.corrcoef(drawn.T) - torch.eye(4)
    assert related.abs().max() < 5 / 5000**0.5


def test_a_sample_draws_the_same_normal_numbers_in_any_batch_and_at_any_width():
    alone = normal_noise([42], Layout.of([4]), 3)
    among = normal_noise([7, 42, 9], Layout.of([3, 4, 2]), 5)
    assert torch.equal(among[3:7, :3], alone)
    assert normal_noise([], Layout.empty(0), 3).shape == (0, 3)
