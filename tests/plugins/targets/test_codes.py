import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from polymodal_targets import Codebook, kmeans, nearest_codes


def blobs(count=60, seed=0):
    """Rows around three far points."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 0, 0, 0], [9.0, 0, 0, 0], [0.0, 9, 0, 0]])
    return centres[torch.arange(count) % 3] + 0.1 * torch.randn(count, 4, generator=generator)


def model_of(toys, **options):
    return toys.model(
        {"image": toys.VALUES},
        objective=toys.named("masking.codes", stream="image", **{"codes": 3, **options}),
    )


def test_a_code_is_the_nearest_centre():
    rows, centres = torch.randn(20, 4), torch.randn(5, 4)
    expected = torch.cdist(rows.double(), centres.double()).argmin(dim=1)
    assert torch.equal(nearest_codes(rows, centres), expected)
    assert nearest_codes(rows[:0], centres).shape == (0,)


def test_kmeans_is_as_tight_as_scikit_learns_and_the_same_each_time():
    cluster = pytest.importorskip("sklearn.cluster")
    rows = blobs()
    centres = kmeans(rows, 3)
    spread = torch.cdist(rows, centres).amin(dim=1).square().sum()
    theirs = cluster.KMeans(3, n_init=5, random_state=0).fit(rows.numpy()).inertia_
    assert float(spread) == pytest.approx(theirs, rel=1e-3)
    assert torch.equal(kmeans(rows, 3), centres)


def test_more_codes_than_different_rows_are_no_trouble():
    centres = kmeans(torch.tensor([[1.0], [1.0], [5.0]]), 4)
    assert torch.isfinite(centres).all()
    assert set(
        centres[nearest_codes(torch.tensor([[1.0], [5.0]]), centres)].flatten().tolist()
    ) == {
        1.0,
        5.0,
    }


def test_the_codebook_is_that_of_the_first_batch_and_then_frozen():
    book = Codebook(3, 4)
    book.fit(blobs()[:0])
    assert not book.ready
    book.fit(blobs())
    centres = book.centres.clone()
    assert len(set(book(blobs(seed=1)[:3]).tolist())) == 3
    book.fit(100 * torch.ones(8, 4))
    assert torch.equal(book.centres, centres)
    fresh = Codebook(3, 4)
    fresh.fit(100 * torch.ones(8, 4))
    fresh.load_state_dict(book.state_dict())
    fresh.fit(100 * torch.ones(8, 4))
    assert torch.equal(fresh.centres, centres)


def test_a_codebook_may_be_given(tmp_path):
    centres = torch.randn(5, 4)
    save_file({"centres": centres}, tmp_path / "book.safetensors")
    np.save(tmp_path / "book.npy", centres.numpy())
    for name in ("book.safetensors", "book.npy"):
        book = Codebook(5, 4, file=str(tmp_path / name))
        book.fit(blobs())
        assert torch.equal(book.centres, centres)
    with pytest.raises(ValueError, match="must hold 6 codes of 4 values, got \\[5, 4\\]"):
        Codebook(6, 4, file=str(tmp_path / "book.npy"))
    with pytest.raises(ValueError, match="can't be read as one array"):
        Codebook(5, 4, file=str(tmp_path / "none.npy"))
    with pytest.raises(ValueError, match="codes must be 2 or more"):
        Codebook(1, 4)


def test_the_loss_is_cross_entropy_of_the_hidden_tokens_codes(toys):
    model = model_of(toys, ratio=0.5)
    image = toys.value_tokens([4, 0, 6, 2])
    batch = toys.batch(image=image.with_rows(blobs(12)))
    found = toys.loss(model, batch)
    assert found.count == 6 == model.objective("objective").count(toys.step(model, batch))
    with torch.no_grad():
        model.objective("objective").head.linear.weight.zero_()
        model.objective("objective").head.linear.bias.zero_()
    assert toys.mean(toys.loss(model, batch)).item() == pytest.approx(np.log(3))


def test_codes_that_neighbours_tell_are_learned(toys):
    model = model_of(toys, ratio=0.3)
    image = toys.value_tokens([4] * 6)
    batch = toys.batch(image=image.with_rows(blobs(24)[torch.arange(24) // 4]))
    first, last = toys.train(model, batch)
    assert last < 0.5 * first
