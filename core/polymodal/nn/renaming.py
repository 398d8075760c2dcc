"""Weights that were saved under other names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


def rename_keys(module: nn.Module, formerly: Mapping[str, str]) -> None:
    """Let a module load weights saved when parts of it had other names.

    Args:
        module: that loads them.
        formerly: old name to new; a name that ends in a dot stands for all that begin with it. A
            name is changed where the module has the new one and not the old.
    """

    def rename(own: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        known = set(own.state_dict())
        for key in [key for key in state if key.startswith(prefix)]:
            name = key.removeprefix(prefix)
            if name in known:
                continue
            for old, new in formerly.items():
                changed = new + name.removeprefix(old) if name.startswith(old) else ""
                exact = old.endswith(".") or name == old
                if exact and changed in known:
                    state[prefix + changed] = state.pop(key)
                    break

    module.register_load_state_dict_pre_hook(rename)
