from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from polymodal import DataError
from polymodal_supervised.classification import Classification, Names
from polymodal_supervised.regression import Regression


def labelled_batch(toys, labels, *, seed=1):
    """A batch of images with these labels; the second has no tokens."""
    lengths = [0 if row == 1 else 2 for row in range(len(labels))]
    batch = toys.batch(image=toys.value_tokens(lengths, seed=seed))
    return replace(batch, fields={"label": tuple(labels)})


def classifier(toys, **options):
    options = {"classes": 3, **options}
    return toys.model(
        {"image": toys.VALUES},
        objective=lambda info: Classification(info, stream="image", label="label", **options),
    )


def regressor(toys, **options):
    return toys.model(
        {"image": toys.VALUES},
        objective=lambda info: Regression(info, stream="image", label="label", **options),
    )


def pooled(toys, model, batch):
    return toys.step(model, batch).encode("image").pooled_rows()


def test_the_loss_is_cross_entropy_over_samples_with_stream_and_label(toys):
    model = classifier(toys, classes=["a", "b", "7"], label_smoothing=0.1)
    batch = labelled_batch(toys, ["b", "a", 7, None, "a", float("nan"), ""])
    found = toys.loss(model, batch)
    logits = model.objective("objective").head(pooled(toys, model, batch))[[0, 2, 4]]
    expected = F.cross_entropy(logits, torch.tensor([1, 2, 0]), label_smoothing=0.1)
    assert found.count == 3
    torch.testing.assert_close(found.total / 3, expected)
    assert found.metrics["accuracy"][1] == 3


def test_no_label_at_all_costs_nothing_and_reaches_the_head(toys):
    for model in (classifier(toys), regressor(toys)):
        found = toys.loss(model, labelled_batch(toys, [None, "x", None]))
        assert found.count == 0 and found.total == 0
        assert toys.gradients_are_finite(model, found)
        assert all(p.grad is not None for p in model.objective("objective").parameters())


def test_learned_class_numbers_depend_on_neither_order_nor_later_batches_and_are_saved(toys):
    model = classifier(toys)
    batch = labelled_batch(toys, ["red", "-", "blue", "red"])
    first = toys.loss(model, batch).total
    assert int((model.objective("objective").names.hashes != 0).sum()) == 2  # "-" has no tokens
    other = classifier(toys)
    toys.loss(other, labelled_batch(toys, ["blue", "-", "red"]))
    torch.testing.assert_close(toys.loss(other, batch).total, first)
    toys.loss(model, labelled_batch(toys, ["green", "-", "blue"]))
    torch.testing.assert_close(toys.loss(model, batch).total, first)
    fresh = classifier(toys)
    toys.loss(fresh, labelled_batch(toys, ["green", "-", "green"]))  # it learned others before
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(toys.loss(fresh, batch).total, first)


def test_a_label_that_is_no_class_is_refused_by_name(toys):
    given = classifier(toys, classes=["sitting", "standing"])
    with pytest.raises(DataError, match="'standin', which is no class. Did you mean 'standing'"):
        toys.loss(given, labelled_batch(toys, ["standin"]))
    with pytest.raises(DataError, match="more than 2 different values"):
        toys.loss(classifier(toys, classes=2), labelled_batch(toys, ["a", "b", "c", "d"]))
    with pytest.raises(ValueError, match="must differ"):
        classifier(toys, classes=["a", "a"])
    with pytest.raises(ValueError, match="2 or more"):
        classifier(toys, classes=1)


def test_training_tells_the_classes_apart(toys):
    model = classifier(toys, hidden=8)
    batch = labelled_batch(toys, ["a", "-", "b", "c", "a", "b"])
    first, last = toys.train(model, batch)
    assert last < 0.2 * first
    right, count = toys.loss(model, batch).metrics["accuracy"]
    assert right == count == 5


def test_regression_compares_in_unit_size_and_predicts_in_the_fields_unit(toys):
    model = regressor(toys, outputs=2, mean=100.0, deviation=20.0)
    batch = labelled_batch(toys, [[90, 120], [0, 0], None, [140, 100]])
    found = toys.loss(model, batch)
    objective = model.objective("objective")
    encoded = toys.step(model, batch).encode("image")
    predicted = objective.project("image", encoded)[[0, 3]]
    wanted = torch.tensor([[90.0, 120.0], [140.0, 100.0]])
    expected = ((predicted - wanted) / 20).square().mean(dim=1).sum()
    torch.testing.assert_close(found.total, expected)
    assert found.count == 2 == objective.count(toys.step(model, batch))


@pytest.mark.parametrize("value", ["tall", [1.0, 2.0], float("inf")])
def test_a_label_that_is_no_number_is_refused(toys, value):
    with pytest.raises(DataError, match="'label' must hold a finite number"):
        toys.loss(regressor(toys), labelled_batch(toys, [value]))


@pytest.mark.parametrize("tags", [["red", "warm"], ("red",), np.array(["red"])])
def test_several_labels_of_a_sample_are_no_class(tags):
    with pytest.raises(DataError, match="'tags' must hold a single label"):
        Names(4).numbers({0: "red", 1: tags}, field="tags")
