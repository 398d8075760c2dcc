import numpy as np
import pytest
import torch
import torch.nn.functional as F

from polymodal import Batch, DataError, Layout
from polymodal.testing.toys import loss_of, toy_batch, toy_info, toy_model
from polymodal_masking.cross_view import CrossView
from polymodal_supervised.binocular import Binocular
from polymodal_supervised.dense import Dense
from polymodal_supervised.readout import Readout


def labelled(batch, labels):
    return Batch(batch.streams, batch.samples, batch.keys, batch.sources, {"label": tuple(labels)})


def dense(toys, **options):
    options = {"stream": "image", "label": "label", "cell": 2, **options}
    return toys.model({"image": toys.PLANE}, objective=lambda info: Dense(info, **options))


def binocular(toys, **options):
    options = {"stream": "one", "reference": "other", "label": "label", **options}
    return toys.model(
        {"one": toys.PLANE, "other": toys.PLANE}, objective=lambda info: Binocular(info, **options)
    )


def test_each_token_predicts_the_pixels_it_covers(toys):
    """Against torch's own cutting of images (pixel_unshuffle)."""
    model = dense(toys, outputs=2, mean=1.0, deviation=3.0)
    batch = toys.batch(image=toys.plane_tokens([3, 2]))
    maps = [np.random.default_rng(s).normal(size=(s, s, 2)).astype(np.float32) for s in (6, 4)]
    found = toys.loss(model, labelled(batch, maps))
    readout = model.objective("objective").readout
    encoded = toys.step(model, batch).encode("image")
    rows = readout.predict(encoded.vectors, encoded.layout)
    expected = 0.0
    for predicted, label in zip(rows.split([9, 4]), maps, strict=True):
        target = F.pixel_unshuffle(
            torch.from_numpy(label).permute(2, 0, 1), 2
        )  # (c y x) row column
        target = target.reshape(2, 4, -1).permute(2, 1, 0).reshape(-1, 8)
        expected = expected + (predicted - (target - 1) / 3).square().sum()
    torch.testing.assert_close(found.total, expected)
    assert found.count == 2 * (36 + 16)


def test_pixels_that_are_unknown_cost_nothing(toys):
    model = dense(toys)
    batch = toys.batch(image=toys.plane_tokens([2, 2, 2]))
    known, partly = np.ones((4, 4), np.float32), np.ones((4, 4), np.float32)
    partly[1:, :] = np.nan
    found = toys.loss(model, labelled(batch, [known, None, partly]))
    step = toys.step(model, labelled(batch, [known, None, partly]))
    assert found.count == 16 + 4 == model.objective("objective").count(step)
    partly[1:, :] = 100.0  # far off: known, it would cost much
    assert toys.loss(model, labelled(batch, [known, None, partly])).total > found.total + 1000
    assert toys.gradients_are_finite(model, found)


def test_segmentation_is_cross_entropy_over_known_pixels(toys):
    model = dense(toys, classes=3)
    batch = toys.batch(image=toys.plane_tokens([2]))
    classes = np.array([[0, 1, 2, -1]] * 4)
    found = toys.loss(model, labelled(batch, [classes]))
    encoded = toys.step(model, batch).encode("image")
    logits = model.objective("objective").readout.predict(encoded.vectors, encoded.layout)
    # token (row, column) of 2 x 2 pixels: columns 0 and 1, then 2 and unknown
    target = torch.tensor([[0, 1, 0, 1], [2, -100, 2, -100]] * 2)
    expected = F.cross_entropy(logits.reshape(-1, 3), target.flatten(), reduction="sum")
    torch.testing.assert_close(found.total, expected)
    assert found.count == found.metrics["accuracy"][1] == 12


def test_further_blocks_are_read_beside_the_last():
    info = toy_info(["patches"])
    objective = Dense(info, stream="patches", label="map", cell=1, layers=[0])
    assert objective.readout.norm.normalized_shape == (2 * info["patches"].width,)
    model = toy_model(objective, ["patches"])
    loss_of(model, toy_batch(["patches"], fields=["map"])).total.backward()
    first = model.encoder("patches").trunk.norm.weight.grad
    assert first is not None and first.any()  # the last vectors are read as well


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((4, 6)), r"a map of 4 cells of 2 x 2 pixels, got an array of shape \[4, 6\]"),
        (np.zeros((4, 4, 2)), "a map of 4 cells"),
        ("tall", "a map of 4 cells of 2 x 2 pixels, got 'tall'"),
    ],
)
def test_a_label_that_is_no_map_of_the_image_is_refused(toys, label, message):
    batch = toys.batch(image=toys.plane_tokens([2]))
    with pytest.raises(DataError, match=message):
        toys.loss(dense(toys), labelled(batch, [label]))


def test_a_class_out_of_range_is_refused(toys):
    batch = toys.batch(image=toys.plane_tokens([2]))
    with pytest.raises(DataError, match="classes 0 to 2, got 3"):
        toys.loss(dense(toys, classes=3), labelled(batch, [np.full((4, 4), 3)]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": 0}, "cell must be 1 or more"),
        ({"classes": 1}, "classes must be 2 or more"),
        ({"classes": 3, "outputs": 2}, "can't be combined"),
        ({"deviation": 0.0}, "deviation must be above 0"),
    ],
)
def test_bad_options_are_refused(toys, options, message):
    with pytest.raises(ValueError, match=message):
        dense(toys, **options)


def test_a_pairs_label_is_predicted_from_the_mean_of_the_decoded_view():
    torch.manual_seed(0)
    readout = Readout(6, field="label", cell=None, outputs=2)
    vectors = torch.randn(5, 6)
    predicted = readout.predict(vectors, Layout.of([2, 3]))
    means = torch.stack([vectors[:2].mean(0), vectors[2:].mean(0)])
    torch.testing.assert_close(predicted, readout.head(readout.norm(means)))


def test_pairs_without_a_view_or_label_cost_nothing(toys):
    model = binocular(toys, outputs=2)
    one, other = toys.plane_tokens([2, 0, 2, 2]), toys.plane_tokens([2, 2, 2, 2], seed=1)
    batch = labelled(toys.batch(one=one, other=other), [[0, 1], [1, 1], None, [1, 0]])
    found = toys.loss(model, batch)
    assert found.count == 4 == model.objective("objective").count(toys.step(model, batch))
    assert toys.gradients_are_finite(model, found)
    empty = toys.loss(model, labelled(toys.batch(one=one, other=other), [None] * 4))
    assert empty.count == 0 == empty.total
    assert toys.gradients_are_finite(model, empty)


def test_flow_is_predicted_at_every_pixel(toys):
    model = binocular(toys, cell=2, outputs=2, layers=[0])
    batch = toys.batch(one=toys.plane_tokens([3]), other=toys.plane_tokens([3], seed=1))
    flow = np.zeros((6, 6, 2), np.float32)
    assert toys.loss(model, labelled(batch, [flow])).count == 72


def test_what_two_views_say_together_can_be_learned(toys):
    """Whether the other view is the same: no single view tells."""
    model = binocular(toys, classes=2, decoder_heads=2, hidden=16)
    tokens = toys.plane_tokens([2] * 12)
    other = tokens.select([0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 11])
    same = [0 if i % 2 and i < 11 else 1 for i in range(12)]
    batch = labelled(toys.batch(one=tokens, other=other), same)
    first, last = toys.train(model, batch, steps=60, rate=0.01)
    assert last < 0.5 * first


def test_the_decoder_of_cross_view_completion_fits_the_fine_tuning(toys):
    info = toys.info(one=8, other=8)
    views = {"stream": "one", "reference": "other", "decoder_depth": 3}
    learned = CrossView(info, **views).state_dict()
    tuned = Binocular(info, **views, label="label").state_dict()
    common = {name for name in tuned if name in learned}
    assert common == {name for name in learned if name.startswith("decoder.")}
    assert all(tuned[name].shape == learned[name].shape for name in common)
    assert {name.split(".")[0] for name in tuned} == {"decoder", "readout"}
