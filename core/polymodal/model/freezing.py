"""Which parameters are trained, and at what rate."""

from fnmatch import fnmatch
from typing import Any, cast

from torch import nn

from polymodal.config.shape import Config, EncoderSlot
from polymodal.ground.errors import nearest
from polymodal.interfaces.encoder import Encoder
from polymodal.model.model import PretrainingModel


def freeze(encoder: Encoder, slot: EncoderSlot) -> None:
    """Take parameters out of training: all, the first layers, or those that match a pattern.

    Raises:
        ValueError: a pattern that matches nothing, or more layers than there are.
    """
    if slot.freeze is True:
        encoder.requires_grad_(False)
    elif slot.freeze:
        names = dict(encoder.named_parameters())
        for pattern in slot.freeze:
            matched = [name for name in names if fnmatch(name, pattern)]
            if not matched:
                raise ValueError(f"{pattern!r} matches no parameter.{nearest(pattern, names)}")
            for name in matched:
                names[name].requires_grad_(False)
    layers = encoder.layers()
    if slot.freeze_layers > len(layers):
        raise ValueError(f"freeze_layers is {slot.freeze_layers}, but it has {len(layers)} layers")
    for layer in layers[: slot.freeze_layers]:
        layer.requires_grad_(False)


def parameter_groups(model: PretrainingModel, config: Config) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices decay, biases and norms do not, parts by their own rate.

    Nor does what an encoder's `no_weight_decay` names.

    Each group's "scale" is its learning rate in units of the optimizer's.
    """
    scale: dict[nn.Parameter, float] = {}
    for parts, slots in (
        (model.encoders, config.encoder_slots()),
        (model.shared, config.modules),
        (model.objectives, config.objectives),
    ):
        for name, part in parts.items():
            slot = slots[name]
            rate = (slot.learning_rate or config.optimizer.learning_rate) / (
                config.optimizer.learning_rate
            )
            scale.update(dict.fromkeys(part.parameters(), rate))
            if isinstance(slot, EncoderSlot) and slot.layer_decay is not None:
                layers = cast(Encoder, part).layers()
                for depth, layer in enumerate(layers):
                    lowered = rate * slot.layer_decay ** (len(layers) - 1 - depth)
                    scale.update(dict.fromkeys(layer.parameters(), lowered))
    spared = {
        parameter
        for encoder in model.encoders.values()
        for pattern in cast(Encoder, encoder).no_weight_decay()
        for name, parameter in encoder.named_parameters()
        if fnmatch(name, pattern)
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and parameter not in spared
            key = (scale.get(parameter, 1.0), decays)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "scale": rate,
            "decays": decays,
            "weight_decay": config.optimizer.weight_decay if decays else 0.0,
        }
        for (rate, decays), parameters in groups.items()
    ]
