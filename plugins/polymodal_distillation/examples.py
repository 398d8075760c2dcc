"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own streams."""
    small = {"outputs": 12, "hidden": 16, "bottleneck": 8}
    leak = {"target_leak": "a target is the teacher's vector, in which all tokens are mixed"}
    return [
        Example(
            "distillation.byol", "objective",
            {"stream": "patches", "dim": 8, "hidden": 16, "norm": False}, skip=leak,
        ),
        Example(
            "distillation.byol", "objective",
            {"stream": "graphs", "each": "token", "hidden": 16, "restart": True}, skip=leak,
        ),
        Example("distillation.dino", "objective", {"stream": "words", **small}, skip=leak),
        Example(
            "distillation.ibot", "objective",
            {"stream": "patches", **small, "patch_outputs": 10}, skip=leak,
        ),
    ]  # fmt: skip
