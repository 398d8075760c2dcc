import numpy as np
import pytest
import torch

from polymodal import Taps, Tokens, TokenSpec
from polymodal_video.clip import Clip
from polymodal_video.timm_frames import TimmFrames
from polymodal_video.tubelets import Tubelets
from polymodal_video.vit import VideoTransformer
from polymodal_vision import PatchSpec

TUBELETS = Tubelets(size=8, frames=6, tube=2, patch=4)
FRAMES = Tubelets(size=32, frames=3, tube=1, patch=16)


def clip(frames: int, side: int = 8, seed: int = 0) -> Clip:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    return Clip(pixels, np.arange(frames) / 10)


def vit(**options: object) -> VideoTransformer:
    torch.manual_seed(0)
    return VideoTransformer(TUBELETS.spec, width=32, depth=2, heads=2, **options).eval()


def reference_divided(encoder: VideoTransformer, tokens: Tokens) -> torch.Tensor:
    """TimeSformer's T+S blocks on one clip, float64, one loop for each place and each time."""
    inner = encoder.encoder
    x = inner.embed(tokens).vectors.double()
    positions = tokens.layout.positions.tolist()

    def attention(module, rows):
        q, k, v = (
            torch.nn.functional.linear(rows, module.qkv.weight.double(), module.qkv.bias.double())
            .unflatten(1, (3, module.heads, -1))
            .permute(1, 2, 0, 3)
        )
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)
        mixed = (weights @ v).transpose(0, 1).flatten(1)
        return mixed @ module.out.weight.double().T + module.out.bias.double()

    def norm(module, rows):
        return torch.nn.functional.layer_norm(
            rows, rows.shape[1:], module.weight.double(), module.bias.double(), module.eps
        )

    def by(axes):
        groups: dict[tuple[int, ...], list[int]] = {}
        for token, position in enumerate(positions):
            groups.setdefault(tuple(position[axis] for axis in axes), []).append(token)
        return list(groups.values())

    for step in inner.trunk.blocks:
        block = step.block
        normed, after = norm(step.time_norm, x), x.clone()
        for rows in by((1, 2)):
            after[rows] += attention(step.time_attention, normed[rows])
        normed, x = norm(block.attention_norm, after), after.clone()
        for rows in by((0,)):
            x[rows] += attention(block.attention, normed[rows])
        up, down = block.mlp.up, block.mlp.down
        hidden = norm(block.mlp_norm, x) @ up.weight.double().T + up.bias.double()
        hidden = torch.nn.functional.gelu(hidden)
        x = x + hidden @ down.weight.double().T + down.bias.double()
    return norm(inner.trunk.norm, x)


def test_divided_attention_agrees_with_loops_over_places_and_times():
    encoder = vit(attention="divided")
    tokens = TUBELETS.encode([clip(6), clip(3, seed=1), None])
    encoded = encoder(tokens)
    for segment in range(2):
        alone = tokens.select([segment])
        wanted = reference_divided(encoder, alone)
        rows = encoded.vectors[tokens.layout.segment == segment]
        torch.testing.assert_close(rows.double(), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            encoded.pooled[segment].double(), wanted.mean(dim=0), atol=1e-5, rtol=1e-5
        )
    assert (encoded.pooled[2] == 0).all()


def test_divided_attention_takes_tokens_in_any_order_and_with_gaps():
    encoder = vit(attention="divided")
    tokens = TUBELETS.encode([clip(6)])
    shuffle = torch.randperm(12, generator=torch.Generator().manual_seed(0))[:7]
    layout, rows = tokens.layout.kept(shuffle, [7])
    mixed = tokens.with_rows(tokens.values[rows], layout)
    wanted = reference_divided(encoder, mixed)
    torch.testing.assert_close(encoder(mixed).vectors.double(), wanted, atol=1e-5, rtol=1e-5)


def test_rotary_divided_attention_does_not_depend_on_the_order_of_tokens():
    encoder = vit(attention="divided", positions="rotary")
    tokens = TUBELETS.encode([clip(6)])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    layout, rows = tokens.layout.kept(order, [12])
    mixed = encoder(tokens.with_rows(tokens.values[rows], layout)).vectors
    torch.testing.assert_close(mixed, encoder(tokens).vectors[order], atol=1e-5, rtol=1e-5)
    elsewhere = tokens.layout.map(lambda rows: rows.clone())
    elsewhere.positions[:, 0] = elsewhere.positions[:, 0] * 2  # times further apart
    moved = encoder(Tokens(elsewhere, values=tokens.values)).vectors
    assert not torch.allclose(moved, encoder(tokens).vectors, atol=1e-4)


@pytest.mark.parametrize("attention", ["joint", "divided"])
def test_one_clip_changes_no_other(attention):
    encoder = vit(attention=attention)
    first = encoder(TUBELETS.encode([clip(6), clip(6, seed=1)])).vectors
    second = encoder(TUBELETS.encode([clip(6), clip(6, seed=2)])).vectors
    assert torch.equal(first[:12], second[:12])
    assert not torch.equal(first[12:], second[12:])


@pytest.mark.parametrize("attention", ["joint", "divided"])
def test_every_tubelet_of_a_clip_reaches_every_other(attention):
    # Divided attention needs one block for that: first along time, then across space.
    encoder = vit(attention=attention)
    tokens = TUBELETS.encode([clip(6)])
    tokens.values.requires_grad_(True)
    encoder(tokens).vectors[0, :5].sum().backward()  # the sum of all is fixed by the norm
    assert tokens.values.grad.abs().sum(dim=1).gt(0).all()


@pytest.mark.parametrize("attention", ["joint", "divided"])
@pytest.mark.parametrize("raws", [[], [None], [clip(6), None, clip(1)]])
def test_video_transformers_train_on_any_batch(attention, raws):
    encoder = vit(attention=attention, drop_path=0.3, dropout=0.1, gradient_checkpointing=True)
    encoder.train()
    encoded = encoder(TUBELETS.encode(raws))
    assert encoded.pooled.shape == (len(raws), 32)
    (encoded.vectors.square().sum() + encoded.pooled.sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_taps_and_layers():
    encoder = vit(attention="divided")
    tokens = TUBELETS.encode([clip(6)])
    assert encoder(tokens, taps=Taps(hidden=(0, -1))).hidden.keys() == {0, -1}
    assert len(encoder.layers()) == 3
    with pytest.raises(ValueError, match="no maps"):
        encoder(tokens, taps=Taps(attention=(0,)))
    assert vit()(tokens, taps=Taps(attention=(0,))).attention[0][0].shape == (2, 12, 12)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attention": "divided", "pool": "class"}, "class token"),
        ({"attention": "divided", "registers": 2}, "registers"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        vit(**options)


def test_tokens_of_images_are_refused():
    with pytest.raises(ValueError, match=r"video\.tubelets"):
        VideoTransformer(TokenSpec(features=3, axes=2), width=8, depth=1)
    spec = PatchSpec(features=3, axes=2, extent=(2, 2), max_tokens=4)
    with pytest.raises(ValueError, match=r"video\.tubelets"):
        TimmFrames(spec, model="test_vit")


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("tube", [1, 2])
def test_timm_frames_is_timm_on_every_frame(name, tube):
    tubelets = Tubelets(size=32, frames=4, tube=tube, patch=16, normalize="none")
    encoder = TimmFrames(tubelets.spec, model=name).eval()
    raws = [clip(4, 32), None, clip(2, 32, seed=1)]
    encoded = encoder(tubelets.encode(raws))
    model = encoder.tower.model
    assert encoded.layout.lengths == (4 * 4 // tube, 0, 2 * 4 // tube)
    for segment, raw in ((0, raws[0]), (2, raws[2])):
        pixels = torch.from_numpy(raw.frames).permute(0, 3, 1, 2).float() / 255
        features = model.forward_features(pixels)
        pooled = model.forward_head(features, pre_logits=True).mean(dim=0)
        torch.testing.assert_close(encoded.pooled[segment], pooled, atol=1e-5, rtol=1e-5)
        if name == "test_vit":
            maps = features[:, 1:].unflatten(0, (-1, tube)).mean(dim=1).flatten(0, 1)
            rows = encoded.vectors[encoded.layout.segment == segment]
            torch.testing.assert_close(rows, maps, atol=1e-5, rtol=1e-5)
    assert (encoded.pooled[1] == 0).all()


@pytest.mark.parametrize("raws", [[], [None, None], [clip(1, 32)]])
def test_timm_frames_trains_on_any_batch(raws):
    encoder = TimmFrames(FRAMES.spec, model="test_resnet").train()
    encoded = encoder(FRAMES.encode(raws), taps=Taps(hidden=(-1,)))
    (encoded.vectors.sum() + encoded.pooled.sum()).backward()
    assert encoded.pooled.shape == (len(raws), encoder.width)
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert len(encoder.layers()) > 2
