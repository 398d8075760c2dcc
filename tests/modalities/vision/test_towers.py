import json
import logging
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay

from polymodal import DataError, Taps
from polymodal.model.freezing import parameter_groups
from polymodal_vision.open_clip_encoder import OpenClipEncoder
from polymodal_vision.patches import Patches
from polymodal_vision.timm_encoder import TimmEncoder

PATCHES = Patches(size=32, patch=16, normalize="clip")


def pixels(*sizes: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in sizes]


def as_batch(images: list[np.ndarray], patches: Patches = PATCHES) -> torch.Tensor:
    mean, std = (np.array(each) for each in patches.statistics)
    stacked = (np.stack(images) / 255 - mean) / std
    return torch.from_numpy(stacked).float().permute(0, 3, 1, 2)


@pytest.fixture(scope="module", autouse=True)
def tiny_open_clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    vit = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    towers = {
        "tiny-vit": vit,
        "tiny-gap": {**vit, "pool_type": "avg", "final_ln_after_pool": True},
        "tiny-coca": {**vit, "attentional_pool": True, "attn_pooler_heads": 2},
        "tiny-resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 32},
        "tiny-timm": {
            "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none",
            "image_size": 160,
        },
        "tiny-timm-conv": {
            "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "mlp",
            "image_size": 32,
        },
    }  # fmt: skip
    for name, vision in towers.items():
        width = 64 if name == "tiny-timm" else 32
        config = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return tuple(towers)


TIMM = ("test_vit", "test_convnext", "test_resnet", "test_mambaout", "mobilenetv3_small_050")


@pytest.mark.parametrize("name", TIMM)
def test_a_timm_model_gives_what_timm_gives_on_the_same_pixels(name):
    encoder = TimmEncoder(PATCHES.spec, model=name).eval()
    images = pixels(32, 32)
    encoded = encoder(PATCHES.encode([images[0], None, images[1]]))
    model = encoder.tower.model
    with torch.no_grad():
        features = model.forward_features(as_batch(images))
        pooled = model.forward_head(features, pre_logits=True)
    assert encoded.vectors.shape == (8, encoder.width)
    torch.testing.assert_close(encoded.pooled[[0, 2]], pooled, atol=1e-5, rtol=1e-5)
    assert (encoded.pooled[1] == 0).all()


def test_tokens_of_a_timm_vit_are_its_own():
    encoder = TimmEncoder(PATCHES.spec, model="test_vit").eval()
    images = pixels(32, 32)
    vectors = encoder(PATCHES.encode(images)).vectors
    features = encoder.tower.model.forward_features(as_batch(images))[:, 1:]
    torch.testing.assert_close(vectors, features.flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_a_map_of_another_stride_is_read_at_the_patches_places():
    patches = Patches(size=64, patch=16, normalize="clip")
    encoder = TimmEncoder(patches.spec, model="test_resnet").eval()
    images = pixels(64)
    features = encoder.tower.model.forward_features(as_batch(images))
    assert features.shape[2:] == (2, 2)
    wanted = torch.nn.functional.interpolate(features, (4, 4), mode="bilinear", antialias=True)
    vectors = encoder(patches.encode(images)).vectors
    torch.testing.assert_close(vectors, wanted.flatten(2)[0].T, atol=1e-5, rtol=1e-5)


def test_cells_of_a_widened_head_average_to_nothing_less_than_the_head_of_one_cell():
    # MobileNetV3 widens after pooling: on a map of one cell, tokens and pooled are the same.
    encoder = TimmEncoder(Patches(size=32, patch=32).spec, model="mobilenetv3_small_050").eval()
    encoded = encoder(Patches(size=32, patch=32).encode(pixels(32)))
    assert encoder.width == 1024
    torch.testing.assert_close(encoded.vectors, encoded.pooled)


def test_image_size_shows_the_model_larger_pixels():
    encoder = TimmEncoder(PATCHES.spec, model="test_resnet", image_size=64).eval()
    seen = []
    encoder.tower.model.conv1.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape)
    )
    assert encoder(PATCHES.encode(pixels(32))).vectors.shape[0] == 4
    assert seen == [(1, 3, 64, 64)]


@pytest.mark.parametrize(
    "name", ["tiny-vit", "tiny-gap", "tiny-coca", "tiny-resnet", "tiny-timm", "tiny-timm-conv"]
)
def test_an_open_clip_tower_gives_what_open_clip_gives_on_the_same_pixels(name):
    encoder = OpenClipEncoder(PATCHES.spec, model=name).eval()
    images = pixels(32, 32)
    encoded = encoder(PATCHES.encode([images[0], None, images[1]]))
    with torch.no_grad():
        wanted = encoder.tower.visual(as_batch(images))
    assert encoded.vectors.shape == (8, encoder.width)
    torch.testing.assert_close(encoded.pooled[[0, 2]], wanted, atol=1e-5, rtol=1e-5)


def test_tokens_of_an_open_clip_vit_are_normed_and_projected():
    encoder = OpenClipEncoder(PATCHES.spec, model="tiny-vit").eval()
    visual = encoder.tower.visual
    images = pixels(32)
    visual.output_tokens = True
    _, tokens = visual(as_batch(images))
    vectors = encoder(PATCHES.encode(images)).vectors
    torch.testing.assert_close(vectors, tokens[0] @ visual.proj, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tiny-coca", "tiny-resnet"])
def test_a_token_of_an_attention_pool_is_what_the_pool_makes_of_it_alone(name):
    encoder = OpenClipEncoder(PATCHES.spec, model=name).eval()
    visual = encoder.tower.visual
    images = pixels(32)
    vectors = encoder(PATCHES.encode(images)).vectors
    with torch.no_grad():
        if name == "tiny-coca":
            hidden = visual.forward_intermediates(as_batch(images), indices=1, output_fmt="NLC")
            rows = hidden["image_intermediates"][-1][0][:, None]  # each a sequence of one
            wanted = visual.ln_post(visual.attn_pool(rows))[:, 0] @ visual.proj
        else:
            pool = visual.attnpool
            cells = as_batch(images)  # stride 32: one cell, read at all four patches
            for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                cells = stage(cells)
            wanted = pool.c_proj(pool.v_proj(cells[0, :, 0, 0])).expand(4, -1)
    torch.testing.assert_close(vectors, wanted, atol=1e-5, rtol=1e-5)


ENCODERS = [
    (TimmEncoder, "test_vit"),
    (TimmEncoder, "test_resnet"),
    (OpenClipEncoder, "tiny-vit"),
    (OpenClipEncoder, "tiny-resnet"),
]


@pytest.mark.parametrize(("kind", "name"), ENCODERS)
@pytest.mark.parametrize("raws", [[], [None, None], pixels(32)])
def test_no_image_and_one_image_train_without_nan(kind, name, raws):
    encoder = kind(PATCHES.spec, model=name)
    encoder.train()
    before = {key: rows.clone() for key, rows in encoder.named_buffers()}
    encoded = encoder(PATCHES.encode(raws))
    assert encoded.pooled.shape == (len(raws), encoder.width)
    (encoded.vectors.sum() + encoded.pooled.sum()).backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if not any(raw is not None for raw in raws):
            assert not parameter.grad.any(), key
    for key, rows in encoder.named_buffers():
        assert torch.equal(rows, before[key]), key
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize(("kind", "name"), ENCODERS)
def test_one_images_pixels_change_no_other_output(kind, name):
    encoder = kind(PATCHES.spec, model=name).eval()
    images = pixels(32, 32)
    first = encoder(PATCHES.encode(images))
    second = encoder(PATCHES.encode([images[0], 255 - images[1]]))
    assert torch.equal(first.vectors[:4], second.vectors[:4])
    assert not torch.equal(first.vectors[4:], second.vectors[4:])


def test_dropped_patches_are_seen_as_the_mean_colour():
    encoder = TimmEncoder(PATCHES.spec, model="test_vit").eval()
    tokens = PATCHES.encode(pixels(32))
    blanked = tokens.with_rows(tokens.values * torch.tensor([1.0, 0, 1, 1])[:, None])
    kept = encoder(tokens.keep(torch.tensor([0, 2, 3]), [3]))
    whole = encoder(blanked)
    torch.testing.assert_close(kept.vectors, whole.vectors[[0, 2, 3]])
    torch.testing.assert_close(kept.pooled, whole.pooled)


@pytest.mark.parametrize(("kind", "name"), [*ENCODERS, (OpenClipEncoder, "tiny-timm")])
def test_layers_hold_every_parameter_once_stem_first(kind, name):
    encoder = kind(PATCHES.spec, model=name)
    held = [id(p) for layer in encoder.layers() for p in layer.parameters()]
    assert sorted(held) == sorted(id(p) for p in encoder.parameters())
    assert len(encoder.layers()) > 2
    first = next(p for p in encoder.parameters() if p.ndim == 4)  # the stem's convolution
    assert any(p is first for p in encoder.layers()[0].parameters())


@pytest.mark.parametrize(("kind", "name"), ENCODERS)
def test_hidden_layers_are_tapped_at_the_patches(kind, name):
    encoder = kind(PATCHES.spec, model=name).eval()
    tokens = PATCHES.encode(pixels(32, 32))
    encoded = encoder(tokens, taps=Taps(hidden=(-1, 0)))
    assert set(encoded.hidden) == {-1, 0}
    assert all(rows.shape[0] == 8 for rows in encoded.hidden.values())
    assert encoded.hidden[0].shape != encoded.hidden[-1].shape or not torch.equal(
        encoded.hidden[0], encoded.hidden[-1]
    )
    torch.testing.assert_close(encoded.vectors, encoder(tokens).vectors)
    with pytest.raises(ValueError, match="blocks"):
        encoder(tokens, taps=Taps(hidden=(99,)))
    with pytest.raises(ValueError, match="attention"):
        encoder(tokens, taps=Taps(attention=(0,)))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no model 'resnet81'.*Did you mean 'resnet18'"):
        TimmEncoder(PATCHES.spec, model="resnet81")
    with pytest.raises(ValueError, match=r"no weights 'a1_in1'.*Did you mean"):
        TimmEncoder(PATCHES.spec, model="resnet18.a1_in1")
    with pytest.raises(ValueError, match=r"no model 'ViT-B-33'.*Did you mean 'ViT-B-3"):
        OpenClipEncoder(PATCHES.spec, model="ViT-B-33")
    with pytest.raises(ValueError, match=r"no weights 'opena' for 'ViT-B-32'.*'openai'"):
        OpenClipEncoder(PATCHES.spec, model="ViT-B-32", pretrained="opena")
    with pytest.raises(ValueError, match="no trained weights for 'test_mambaout'"):
        TimmEncoder(PATCHES.spec, model="test_mambaout", pretrained=True)


@pytest.mark.parametrize(("kind", "name"), ENCODERS[:3])
def test_gradient_checkpointing_changes_no_gradient(kind, name):
    torch.manual_seed(0)
    plain = kind(PATCHES.spec, model=name).eval()
    saving = kind(PATCHES.spec, model=name, gradient_checkpointing=True).eval()
    saving.load_state_dict(plain.state_dict())
    for encoder in (plain, saving):
        encoder(PATCHES.encode(pixels(32))).pooled.square().sum().backward()
    for first, second in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad)


def test_options_a_model_lacks_are_refused():
    with pytest.raises(ValueError, match="gradient checkpointing"):
        TimmEncoder(PATCHES.spec, model="dla34", gradient_checkpointing=True)
    with pytest.raises(ValueError, match=r"can't build 'dla34'.*drop_path"):
        TimmEncoder(PATCHES.spec, model="dla34", drop_path=0.1)


def test_tokens_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="one size"):
        TimmEncoder(Patches(max_tokens=9).spec, model="test_vit")
    from polymodal import TokenSpec

    with pytest.raises(ValueError, match=r"vision\.patches"):
        OpenClipEncoder(TokenSpec(vocabulary=5), model="tiny-vit")


def test_trained_weights_refuse_pixels_of_another_normalisation():
    with pytest.raises(ValueError, match="normalize: clip"):
        OpenClipEncoder(
            Patches(size=32, normalize="half").spec, model="ViT-B-32", pretrained="openai"
        )


def test_weights_come_from_a_local_file(tmp_path):
    source = timm.create_model("test_vit", num_classes=10)
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    encoder = TimmEncoder(PATCHES.spec, model="test_vit", pretrained=str(path))
    key = "blocks.1.mlp.fc1.weight"
    assert torch.equal(encoder.tower.model.state_dict()[key], source.state_dict()[key])

    whole = open_clip.CLIP(**open_clip.get_model_config("tiny-vit"))
    torch.save(whole.state_dict(), path)
    clip = OpenClipEncoder(PATCHES.spec, model="tiny-vit", pretrained=str(path))
    assert torch.equal(clip.tower.visual.proj, whole.visual.proj)


def test_weights_that_do_not_fit_or_exist_are_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        TimmEncoder(PATCHES.spec, model="test_vit", pretrained=str(tmp_path / "gone.pth"))
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"weights\.pth"):
        TimmEncoder(PATCHES.spec, model="test_vit", pretrained=str(path))
    with pytest.raises(DataError, match=r"weights\.pth"):
        OpenClipEncoder(PATCHES.spec, model="tiny-vit", pretrained=str(path))
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"weights\.pth"):
        TimmEncoder(PATCHES.spec, model="test_vit", pretrained=str(path))


def test_a_failed_download_is_one_line_that_names_the_weights(monkeypatch):
    def refuse(*args: object, **options: object) -> object:
        raise OSError("name resolution failed\nsecond line")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", refuse)
    imagenet = Patches(size=160, patch=16, normalize="half").spec
    with pytest.raises(DataError, match=r"'test_vit'.*could not be downloaded") as caught:
        TimmEncoder(imagenet, model="test_vit", pretrained=True)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", refuse)
    with pytest.raises(DataError, match=r"ViT-B-32.*openai.*could not be downloaded"):
        OpenClipEncoder(PATCHES.spec, model="ViT-B-32", pretrained="openai")


def test_open_clip_leaves_the_root_logger_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    path = tmp_path / "weights.pth"
    torch.save(open_clip.CLIP(**open_clip.get_model_config("tiny-vit")).state_dict(), path)
    OpenClipEncoder(PATCHES.spec, model="tiny-vit", pretrained=str(path))
    assert logging.getLogger().handlers == []


def spared(encoder):
    """Return the names of parameters of two or more axes that do not decay."""
    model = SimpleNamespace(
        encoders={"image": encoder}, shared={}, objectives={}, parameters=encoder.parameters
    )
    slot = SimpleNamespace(learning_rate=None)
    config = SimpleNamespace(
        encoder_slots=lambda: {"image": slot},
        modules={},
        objectives={},
        optimizer=SimpleNamespace(learning_rate=1.0, weight_decay=0.05),
    )
    kept = {p for group in parameter_groups(model, config) if not group["decays"]
            for p in group["params"]}  # fmt: skip
    return {name for name, each in encoder.named_parameters() if each in kept and each.ndim > 1}


def test_what_timm_spares_does_not_decay():
    for name in ("test_vit", "test_convnext"):
        encoder = TimmEncoder(PATCHES.spec, model=name)
        model = encoder.tower.model
        declared = getattr(model, "no_weight_decay", tuple)()
        groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=declared)
        bare = {p for group in groups if not group["weight_decay"] for p in group["params"]}
        wanted = {n for n, p in encoder.named_parameters() if p in bare and p.ndim > 1}
        assert spared(encoder) == wanted
    encoder = TimmEncoder(PATCHES.spec, model="test_vit")
    assert spared(encoder) == {"tower.model.cls_token", "tower.model.pos_embed"}


def test_what_open_clip_declares_does_not_decay():
    encoder = OpenClipEncoder(PATCHES.spec, model="tiny-vit")
    assert spared(encoder) == {"tower.visual.positional_embedding"}
    timm_inside = OpenClipEncoder(PATCHES.spec, model="tiny-timm")
    assert "tower.visual.trunk.pos_embed" in spared(timm_inside)
