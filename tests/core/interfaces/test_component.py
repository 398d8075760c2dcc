from dataclasses import replace

from polymodal import TokenSpec
from polymodal.config.reading import check_config
from polymodal.runs.build import Builder

LARGE = TokenSpec(features=4, axes=2, extent=(4, 4), max_tokens=16)


def test_specs_that_differ_in_size_alone_have_a_union_with_room_for_both():
    wide = replace(LARGE, extent=(2, 6), max_tokens=12)
    assert LARGE.union(wide) == replace(LARGE, extent=(4, 6), max_tokens=16)
    unbounded = replace(LARGE, extent=None, max_tokens=None)
    assert LARGE.union(unbounded) == unbounded == unbounded.union(LARGE)
    assert LARGE.union(replace(LARGE, features=8)) is None
    assert LARGE.union(replace(LARGE, kinds=("content", "special"))) is None


def test_an_encoder_of_learned_positions_can_be_shared_by_large_and_small_crops():
    tokenizer = {"use": "vision.patches", "patch": 2}
    config = {
        "encoders": {
            "vit": {"use": "vision.vit", "size": "pico", "positions": "learned"},
        },
        "streams": {
            "large": {"field": "image", "encoder": "vit", "tokenizer": {**tokenizer, "size": 8}},
            "small": {"field": "image", "encoder": "vit", "tokenizer": {**tokenizer, "size": 4}},
        },
        "objectives": {
            "learn": {
                "use": "distillation.dino", "stream": "small", "local": "large",
                "outputs": 8, "hidden": 8, "bottleneck": 4,
            },
        },
        "data": {"sources": {"digits": "demo.plain_digits"}},
        "trainer": {"max_steps": 1},
    }  # fmt: skip
    encoder = Builder(check_config(config)).model().encoder("small")
    assert encoder.stem.positions.extent == (4, 4)
