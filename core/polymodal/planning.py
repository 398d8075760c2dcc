"""What a config would train: built without reading data, on no device at all where that works."""

from typing import Any

import torch
from torch import nn

from polymodal.build import Builder
from polymodal.config import Config
from polymodal.errors import ConfigError
from polymodal.model import PretrainingModel
from polymodal.origin import Origin
from polymodal.plugins import Plugins


def make_plan(
    config: Config, origin: Origin | None = None, *, plugins: Plugins | None = None
) -> dict[str, Any]:
    """Return what `polymodal plan` shows, as plain values.

    Raises:
        ConfigError: parts that can't be built or combined, all at once.
    """
    builder, model = _build(config, origin, plugins)
    sources = config.data.sources
    weights = {name: slot.weight for name, slot in sources.items()}
    by_rows = any(weight is None for weight in weights.values())
    total = sum(weight or 0 for weight in weights.values())
    parameters = _count(model)
    return {
        "streams": [
            {
                "name": name,
                "field": config.streams[name].field or name,
                "tokenizer": config.tokenizer_slots()[config.tokenizer_of(name)].use,
                "tokens": "ids" if spec.vocabulary else "values",
                "vocabulary": spec.vocabulary or None,
                "features": spec.features or None,
                "max_tokens": spec.max_tokens,
                "encoder": config.encoder_of(name),
            }
            for name, spec in model.specs.items()
        ],
        "encoders": [
            {
                "name": name,
                "use": config.encoder_slots()[name].use,
                "width": builder.encoders[name].width,
                **_count(encoder),
            }
            for name, encoder in model.encoders.items()
        ],
        "modules": [
            {"name": name, "use": config.modules[name].use, **_count(part)}
            for name, part in model.shared.items()
        ],
        "objectives": [
            {
                "name": name,
                "use": config.objectives[name].use,
                "weight": config.objectives[name].weight,
                "reads": sorted(model.objective(name).needs()),
                "modules": list(model.objective(name).uses()),
                **_count(model.objective(name)),
            }
            for name in model.objectives
        ],
        "sources": [
            {
                "name": name,
                "use": slot.use,
                "share": None if by_rows else weights[name] / total if total else 0.0,  # type: ignore[operator]
            }
            for name, slot in sources.items()
        ],
        "evaluate": [{"name": name, "use": slot.use} for name, slot in config.evaluate.items()],
        "steps": config.trainer.max_steps,
        "batch_size": config.data.batch_size,
        "token_budget": config.data.tokens,
        "most_tokens_per_step": _most_tokens(config, model),
        **parameters,
        # float32 weight, gradient and AdamW's two averages: 16 bytes a trained parameter.
        "state_bytes": 4 * parameters["parameters"] + 12 * parameters["trained"],
    }


def _build(
    config: Config, origin: Origin | None, plugins: Plugins | None
) -> tuple[Builder, PretrainingModel]:
    builder = Builder(config, origin, plugins=plugins)
    try:
        with torch.device("meta"):
            builder.check()
            return builder, builder.model()
    except (ConfigError, NotImplementedError, RuntimeError):
        # Some libraries compute while they build, which the meta device refuses. A mistake of the
        # config shows again here.
        builder = Builder(config, origin, plugins=plugins)
        builder.check()
        return builder, builder.model()


def _most_tokens(config: Config, model: PretrainingModel) -> int | None:
    """Return the tokens of a batch in which every sample has every stream at full length."""
    if config.data.tokens is not None:
        return config.data.tokens
    bounds = [spec.max_tokens for spec in model.specs.values()]
    if any(bound is None for bound in bounds):
        return None
    return config.data.batch_size * sum(bound for bound in bounds if bound is not None)


def _count(part: nn.Module) -> dict[str, int]:
    return {
        "parameters": sum(p.numel() for p in part.parameters()),
        "trained": sum(p.numel() for p in part.parameters() if p.requires_grad),
    }
