"""Weights that start from another run's part."""

from pathlib import Path

from torch import nn

from polymodal.config.shape import TrainedSlot
from polymodal.ground.durable import damage_of
from polymodal.ground.errors import foreign, nearest


def initialize(part: nn.Module, slot: TrainedSlot, name: str, section: str) -> None:
    """Take the weights of another run's part of the same kind.

    An encoder or module must have all of them; an objective takes those it has in common, so that
    what was pre-trained by one (a decoder) can be fine-tuned by another.

    Raises:
        ValueError: no such run or part, nothing in common, or weights of other shapes.
    """
    if slot.initialize is None:
        return
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path, _, other = slot.initialize.partition("#")
    other = other or name
    file = Path(path) / "model" / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{path!r} is no run: it has no model/model.safetensors")
    if damage := damage_of(file):
        raise ValueError(damage)
    try:
        weights = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {foreign(error)}") from error
    prefix = f"{section}.{other}."
    found = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if not found:
        names = {key.split(".")[1] for key in weights if key.startswith(f"{section}.")}
        raise ValueError(f"{path!r} has no such part {other!r}.{nearest(other, names)}")
    device = next(iter(part.state_dict().values())).device
    found = {key: value.to(device) for key, value in found.items()}  # a plan has none: "meta"
    partly = section == "objectives"
    try:
        result = part.load_state_dict(found, strict=not partly)
        if partly and len(result.missing_keys) == len(part.state_dict()):
            raise ValueError(f"{path!r}: objective {other!r} has no weights in common with it")
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error
