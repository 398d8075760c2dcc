import pytest
import torch

from polymodal import Layout, Taps, Tokens, TokenSpec

pytest.importorskip("librosa")

from polymodal_audio.convolution import ConvolutionEncoder

PATCHES = TokenSpec(features=6, axes=2)
FRAMES = TokenSpec(features=16)


def encoder(spec, **options):
    torch.manual_seed(0)
    options = {"width": 8, "depth": 2, "kernel": 3, "strides": (2, 2), **options}
    return ConvolutionEncoder(spec, **options)


def patches(*columns, bands=2, seed=0):
    position = [[t, m] for count in columns for t in range(count) for m in range(bands)]
    layout = Layout.of([count * bands for count in columns], torch.tensor(position).reshape(-1, 2))
    generator = torch.Generator().manual_seed(seed)
    return Tokens(layout, values=torch.randn(layout.tokens, 6, generator=generator))


def frames(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layout = Layout.of(lengths)
    return Tokens(layout, values=torch.randn(layout.tokens, 16, generator=generator))


def batch(spec, *lengths, seed=0):
    return patches(*lengths, seed=seed) if spec.axes == 2 else frames(*lengths, seed=seed)


@pytest.mark.parametrize("spec", [PATCHES, FRAMES])
def test_every_sample_gives_what_it_gives_alone(spec):
    model = encoder(spec).eval()
    tokens = batch(spec, 4, 0, 1, 6)
    together = model(tokens)
    assert together.vectors.shape == (tokens.layout.tokens, 8)
    for segment in range(4):
        alone = model(tokens.select([segment]))
        picked = together.select([segment])
        assert torch.allclose(picked.vectors, alone.vectors, atol=1e-6)
        assert torch.allclose(picked.pooled, alone.pooled, atol=1e-6)
    assert not together.pooled[1].any()


@pytest.mark.parametrize("spec", [PATCHES, FRAMES])
def test_a_changed_sample_changes_no_other_and_not_its_own_far_end(spec):
    model = encoder(spec, depth=1).eval()
    tokens = batch(spec, 6, 6)
    values = tokens.values.clone()
    values[0] += 100
    before, after = model(tokens).vectors, model(tokens.with_rows(values)).vectors
    half = len(before) // 2
    assert torch.equal(before[half:], after[half:])
    changed = (before != after).any(dim=1)
    reach = 2 * (tokens.layout.tokens // 12)  # one column on: a kernel of three
    assert changed[:reach].all()
    assert not changed[reach:].any()


def test_two_axes_are_convolved_as_a_whole_picture_would_be():
    model = encoder(PATCHES, depth=1, positions="none").eval()
    tokens = patches(5, bands=3)
    block = model.blocks[0]
    stem = model.stem(tokens.values)
    picture = stem.reshape(1, 5, 3, 8).permute(0, 3, 1, 2)
    mixed = block.depthwise(picture).permute(0, 2, 3, 1).reshape(15, 8)
    wanted = model.norm(stem + block.mlp(block.norm(mixed)))
    assert torch.allclose(model(tokens).vectors, wanted, atol=1e-6)


def test_a_dropped_token_leaves_a_hole():
    model = encoder(FRAMES, depth=1, positions="none").eval()
    tokens = frames(5)
    kept = tokens.keep(torch.tensor([True, False, False, True, True]))
    end = model(tokens.select([0]).keep(torch.tensor([False] * 3 + [True] * 2))).vectors
    assert torch.allclose(model(kept).vectors[1:], end, atol=1e-6)


@pytest.mark.parametrize("spec", [PATCHES, FRAMES])
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_no_tokens_pass_forward_and_backward(spec, lengths):
    model = encoder(spec)
    encoded = model(batch(spec, *lengths))
    assert encoded.pooled.shape == (len(lengths), 8)
    (encoded.vectors.sum() + encoded.pooled.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("spec", [PATCHES, FRAMES])
def test_every_parameter_learns(spec):
    model = encoder(spec)
    encoded = model(batch(spec, 3, 5))
    encoded.pooled.square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_max_pool_and_taps():
    model = encoder(FRAMES, pool="max").eval()
    encoded = model(frames(3, 0), taps=Taps(hidden=(0, -1)))
    assert torch.equal(encoded.pooled[0], encoded.vectors.amax(dim=0))
    assert not encoded.pooled[1].any()
    assert set(encoded.hidden) == {0, -1}
    assert torch.allclose(model.norm(encoded.hidden[-1]), encoded.vectors)
    with pytest.raises(ValueError, match="no attention"):
        model(frames(3), taps=Taps(attention=(0,)))
    with pytest.raises(ValueError, match="no block 2"):
        model(frames(3), taps=Taps(hidden=(2,)))


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="have ids"):
        encoder(TokenSpec(vocabulary=5))
    with pytest.raises(ValueError, match="axes"):
        encoder(TokenSpec(features=5, axes=3))
    with pytest.raises(ValueError, match="odd"):
        encoder(FRAMES, kernel=4)
    with pytest.raises(ValueError, match="leave nothing"):
        encoder(FRAMES, strides=(16, 4))
