"""What a config would train: built without reading data, on no device at all where that works."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from polymodal.config.shape import Config
from polymodal.ground.errors import ConfigError, nearest
from polymodal.model.model import PretrainingModel
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.origin import Origin
from polymodal.runs.build import Builder
from polymodal.training.costs import Expected, estimate


def make_plan(
    config: Config,
    origin: Origin | None = None,
    *,
    plugins: Plugins | None = None,
    tokens: Mapping[str, Expected] | None = None,
) -> dict[str, Any]:
    """Return what `polymodal plan` shows, as plain values.

    Args:
        config: checked.
        origin: where its entries stand, for error messages.
        plugins: those of this environment unless given.
        tokens: what is expected of streams, to estimate what a step costs; of those not named,
            as many tokens as there can be. Without it nothing is estimated.

    Raises:
        ConfigError: parts that can't be built or combined, all at once; `tokens` of a stream that
            does not exist.
    """
    builder, model = _build(config, origin, plugins)
    sources = config.data.sources
    total = sum(slot.weight or 0 for slot in sources.values())
    parameters = _count(model)
    plan: dict[str, Any] = {
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
                # None: by its rows, which are not counted here.
                "share": None if slot.weight is None else slot.weight / total if total else 0.0,
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
    if tokens is not None:
        plan["costs"] = _costs(config, model, tokens)
    return plan


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


def _costs(
    config: Config, model: PretrainingModel, tokens: Mapping[str, Expected]
) -> dict[str, Any]:
    unknown = [name for name in tokens if name not in model.specs]
    if unknown:
        raise ConfigError(
            [f"--tokens: no stream is called {n!r}.{nearest(n, model.specs)}" for n in unknown]
        )
    bounds = {name: spec.max_tokens for name, spec in model.specs.items()}
    expected = {n: Expected(most, most) for n, most in bounds.items() if most is not None}
    expected |= tokens
    unbounded = [name for name in model.specs if name not in expected]
    if unbounded:
        options = " ".join(f"--tokens {name}=N" for name in unbounded)
        return {"unknown": f"streams without a bound on their length: give {options}"}
    try:
        found = estimate(model, config, expected)
    except NotImplementedError as error:
        return {"unknown": str(error)}
    return {"tokens": {n: vars(e) for n, e in expected.items()}, **vars(found)}


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
