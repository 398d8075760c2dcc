"""Building one component from its slot, its parts first, and saying why it can't be built."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from polymodal.config.shape import Slot
from polymodal.ground.errors import DataError, PluginError
from polymodal.interfaces.parts import PARTS
from polymodal.packed.noise import hash_words
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.options import blamed, convert
from polymodal.plugins.origin import Origin, Problem, one_line
from polymodal.plugins.signature import Signature, read_signature

Ready = Callable[[str, Slot, Sequence[str]], bool]
Offer = Callable[[str, str], Any]


class Constructor:
    """Builds components and notes what keeps others from being built, to report all at once.

    Args:
        plugins: that supply them.
        origin: where their entries stand, for error messages.
        seed: of their initial weights.
    """

    def __init__(self, plugins: Plugins, origin: Origin, *, seed: int):
        self.plugins = plugins
        self.origin = origin
        self.seed = seed
        self.problems: list[Problem] = []
        self._cause: Exception | None = None  # of the last problem, for --debug

    def note(self, where: str, error: Exception, *, before: str = "") -> None:
        """Note what an entry fails by."""
        self.problems.append((where, before + one_line(error)))
        self._cause = error

    def raise_noted(self) -> None:
        """Report what was noted, if anything was.

        Raises:
            ConfigError: all of it.
        """
        if self.problems:
            raise self.origin.error(self.problems) from self._cause

    def construct(
        self, where: str, kind: str, slot: Slot, base: type, *, ready: Ready, offer: Offer
    ) -> Any:
        """Return one component, or None and a note why it can't be built.

        Args:
            where: the path of its entry.
            kind: of the component.
            slot: its name and options.
            base: the class it must be of.
            ready: whether all is there that it asks the run for.
            offer: what the run has of that, by name.
        """
        try:
            component = self.plugins.find(slot.use, kind)
            cls = component.load()
            if not issubclass(cls, base):
                raise PluginError(f"{slot.use}: {component.target} is no {base.__name__}")
            signature = read_signature(component.target)
        except (PluginError, ImportError) as error:
            self.note(f"{where}.use", error)
            return None
        if not ready(where, slot, signature.from_run):
            return None
        try:
            given = {name: offer(where, name) for name in signature.from_run}
        except (ValueError, DataError) as error:
            self.note(where, error)
            return None
        options = {}
        for name, value in slot.options.items():
            option = signature.options.get(name)
            if option is not None and option.part is not None and value is not None:
                held = Slot.model_validate(value)
                options[name] = self.construct(
                    f"{where}.{name}",
                    option.part,
                    held,
                    PARTS[option.part],
                    ready=ready,
                    offer=offer,
                )
                if options[name] is None:
                    return None
            else:
                options[name] = value if option is None else convert(option.annotation, value)
        # Weights depend on the seed and the part's own name, not on what else the config holds.
        with torch.random.fork_rng(devices=[]):
            own = where if kind in PARTS else where.rpartition(".")[2]
            torch.manual_seed(hash_words(self.seed, kind, own))
            try:
                return cls(**given, **options)
            except Exception as error:  # the libraries it calls raise what they like
                about = self._blamed(signature, slot.options, str(error))
                place = f"{where}.{about}" if about else where
                self.note(place, error, before=f"{slot.use}: ")
                return None

    def _blamed(self, signature: Signature, options: Mapping[str, Any], message: str) -> str | None:
        """Return the option that an error is about, within a part too: `bind` may refuse it."""
        about = blamed(signature, options, message)
        for name, value in options.items() if about is None else ():
            option = signature.options.get(name)
            if option is not None and option.part is not None and isinstance(value, dict):
                component = self.plugins.find(value["use"], option.part)
                own = {key: each for key, each in value.items() if key != "use"}
                inner = self._blamed(read_signature(component.target), own, message)
                if inner is not None:
                    return f"{name}.{inner}"
        return about
