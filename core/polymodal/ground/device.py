"""Choosing the device to train on."""

import torch

from polymodal.ground.errors import PolymodalError


def choose_device(name: str, option: str = "trainer.device") -> torch.device:
    """Return the device of a config: "auto" is the accelerator, if one works.

    Args:
        name: of the device.
        option: that says it, for the error.

    Raises:
        PolymodalError: the device named is not there.
    """
    if name == "auto":
        if torch.accelerator.is_available():
            accelerator = torch.accelerator.current_accelerator()
            assert accelerator is not None
            return accelerator
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PolymodalError(
            f"{option}: {name!r} can't be used here ({str(error).splitlines()[0]}); "
            "set it to auto or cpu"
        ) from error
    return device


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of this device.

    `torch.manual_seed` notes where it was called for every device that is not in use yet, which
    takes longer than a small step's update.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
