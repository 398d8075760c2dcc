"""Model: what objectives, methods and steps may ask of the whole they are parts of."""

from abc import ABC, abstractmethod
from typing import cast

from torch import nn

from polymodal.ground.errors import nearest
from polymodal.interfaces.component import StreamInfo
from polymodal.interfaces.encoder import Encoder
from polymodal.packed.spec import TokenSpec


class Model(nn.Module, ABC):
    """Encoders, shared modules, objectives and methods by name; `PretrainingModel` is one."""

    streams: dict[str, str]  # the name of each stream's encoder
    specs: dict[str, TokenSpec]  # what each stream's tokens are like
    encoders: nn.ModuleDict
    shared: nn.ModuleDict  # fusions, decoders and the like that objectives share
    objectives: nn.ModuleDict
    methods: nn.ModuleDict

    @property
    @abstractmethod
    def info(self) -> dict[str, StreamInfo]:
        """What objectives may know of each stream."""

    def encoder(self, stream: str) -> Encoder:
        """Return the encoder of a stream.

        Raises:
            KeyError: no stream has this name.
        """
        if stream not in self.streams:
            raise KeyError(f"No stream is called {stream!r}.{nearest(stream, self.streams)}")
        return cast(Encoder, self.encoders[self.streams[stream]])

    def module(self, name: str) -> nn.Module:
        """Return a shared module.

        Raises:
            KeyError: no module has this name.
        """
        if name not in self.shared:
            raise KeyError(f"No module is called {name!r}.{nearest(name, self.shared)}")
        return self.shared[name]

    def objective(self, name: str) -> nn.Module:
        """Return an objective; what it can do beside its loss, ask by type (`Scoring`, say).

        Raises:
            KeyError: no objective has this name.
        """
        if name not in self.objectives:
            raise KeyError(f"No objective is called {name!r}.{nearest(name, self.objectives)}")
        return self.objectives[name]
