"""What a step costs, told before one is made: operations, and the memory of activations.

The model runs over a made-up batch on tensors that have shapes and no values. Where tokens lie and
which of them are hidden is worked out for real, so that each pass has the rows it would have.
"""

import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, is_fake
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from polymodal.config.shape import Config
from polymodal.ground.errors import ConfigError
from polymodal.interfaces.objective import Comparison
from polymodal.model.model import PretrainingModel
from polymodal.nn.transformer import Transformer
from polymodal.packed.batch import Batch
from polymodal.packed.layout import Layout
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Tokens
from polymodal.runs.build import fields_of
from polymodal.training.optimization import Optimization


@dataclass(frozen=True)
class Expected:
    """What is expected of a stream: tokens of a sample that has it, share of samples that do."""

    least: int
    most: int
    share: float = 1.0

    @classmethod
    def parse(cls, texts: Sequence[str]) -> dict[str, "Expected"]:
        """Return what "stream=tokens", "stream=least-most" or "stream=least-most:share" say.

        Raises:
            ConfigError: one that says something else.
        """
        found = {}
        for text in texts:
            read = _EXPECTED.fullmatch(text)
            share = float(read["share"] or 1) if read else 0.0
            if read is None or int(read["most"] or read["least"]) < int(read["least"]) or share > 1:
                raise ConfigError(
                    [
                        f"--tokens {text}: write STREAM=TOKENS or STREAM=LEAST-MOST, tokens of a "
                        "sample, and behind it :SHARE if not all samples have the stream"
                    ]
                )
            most = int(read["most"] or read["least"])
            found[read["stream"]] = cls(int(read["least"]), most, share)
        return found

    @property
    def mean(self) -> float:
        """Tokens of a sample, those that lack the stream included."""
        return (self.least + self.most) / 2 * self.share

    def lengths(self, samples: int) -> list[int]:
        """Return lengths that are spread evenly, in no order; so are the samples without any."""
        filled = [int((i + 1) * self.share) > int(i * self.share) for i in range(samples)]
        spread = np.linspace(self.least, self.most, sum(filled)).round().astype(int)
        drawn = iter(np.random.default_rng(0).permutation(spread).tolist())
        return [next(drawn) if has else 0 for has in filled]


_EXPECTED = re.compile(r"(?P<stream>\w+)=(?P<least>\d+)(-(?P<most>\d+))?(:(?P<share>[\d.]+))?")


@dataclass(frozen=True)
class Costs:
    """What a step's forward and backward passes cost, by one process without `trainer.compile`.

    Operations are those of matrix products, convolutions and attention: a multiplication and an
    addition are two. Activations are what is held at most at one time beside weights, gradients
    and the optimiser.
    """

    flops: float
    activation_bytes: int


class Tally(TorchDispatchMode):
    """Counts operations, and the bytes of tensors that they made and that are still held.

    Views count once, with what they are views of; what was there before counts nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.bytes = 0  # held now
        self.peak = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, weakref.finalize[Any, Any]]
        self._known = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, operation: Any, types: Any, inputs: Any = (), options: Any = None
    ) -> Any:
        """Run an operation and count it and what it makes."""
        options = options or {}
        for tensor in _tensors((inputs, options)):
            self._note(tensor.untyped_storage(), 0)
        if operation is torch.ops.aten._local_scalar_dense.default and is_fake(inputs[0]):
            return (
                0  # asked of a tensor without values: most such questions are whether all is well
            )
        made = operation(*inputs, **options)
        formula = flop_registry.get(operation._overloadpacket)
        if formula is not None:
            self.flops += formula(*inputs, **options, out_val=made)
        for tensor in _tensors(made):
            self._note(tensor.untyped_storage(), tensor.untyped_storage().nbytes())
        self.peak = max(self.peak, self.bytes)
        return made

    def _note(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage not in self._known:
            self.bytes += size
            self._known[storage] = weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.bytes -= size

    def forget(self, tensor: Tensor) -> None:
        """Count a tensor no longer: its memory is accounted for elsewhere."""
        counted = self._known.get(tensor.untyped_storage())
        if counted is not None and counted.alive:
            counted()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def estimate(model: PretrainingModel, config: Config, expected: Mapping[str, Expected]) -> Costs:
    """Return what a step would cost; the model's weights lose their values.

    Args:
        model: that nothing else is done with; on any device, "meta" included.
        config: of the run.
        expected: tokens by stream.

    Raises:
        NotImplementedError: what the model does depends on values that it computes (which tokens
            come next, say).
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _empty(model, mode)
    model.train()
    for part in model.modules():
        if isinstance(part, Transformer) and not part.gradient_checkpointing:
            part.gradient_checkpointing = config.trainer.gradient_checkpointing
    flops, most = 0.0, 0
    # Micro-batches are alike, and one is enough unless samples are compared across them.
    parts = config.trainer.accumulate
    compared = any(isinstance(model.objective(n), Comparison) for n in model.objectives)
    measured = parts if compared else 1
    try:
        for names, share, batch_size in _steps(model, config):
            samples = _samples(config, batch_size, expected)
            size = ceil(samples / parts)
            batches = [_batch(model, mode, expected, size) for _ in range(measured)]
            tally = _step(model, config, batches, names)
            flops += share * tally.flops * samples / sum(batch.samples for batch in batches)
            most = max(most, tally.peak)
    except RuntimeError as error:
        raise NotImplementedError(str(error).partition("\n")[0]) from error
    return Costs(flops, most)


def _step(
    model: PretrainingModel, config: Config, batches: Sequence[Batch], names: Sequence[str]
) -> Tally:
    """Make the forward and backward passes of a step under a tally."""
    optimization = Optimization(model, config, torch.device("cpu"))
    with torch.random.fork_rng(devices=[]), Tally() as tally:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: tally.forget(p.grad))
        optimization.backward(batches, names, number=0, total=1)
    model.zero_grad(set_to_none=True)
    return tally


def _steps(model: PretrainingModel, config: Config) -> list[tuple[list[str], float, int]]:
    """The kinds of step a run has: their objectives, share of the steps, and batch size."""
    names = list(model.objectives)
    if config.trainer.objectives == "all":
        return [(names, 1.0, config.data.batch_size)]
    slots = config.objectives
    total = sum(slots[name].weight for name in names)
    return [
        ([n], slots[n].weight / total, slots[n].batch_size or config.data.batch_size) for n in names
    ]


def _samples(config: Config, batch_size: int, expected: Mapping[str, Expected]) -> int:
    if config.data.tokens is None:
        return batch_size
    mean = sum(each.mean for each in expected.values())
    return max(1, min(batch_size, int(config.data.tokens / max(mean, 1))))


def _empty(model: nn.Module, mode: Any) -> None:
    """Put tensors that have shapes alone in place of weights and buffers; ties stay."""
    made: dict[int, Tensor] = {}

    def bare(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            with mode:
                new = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu"
                )
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
            made[id(tensor)] = new
        return made[id(tensor)]

    for part in model.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = bare(tensor)  # type: ignore[assignment]


def _batch(
    model: PretrainingModel, mode: Any, expected: Mapping[str, Expected], samples: int
) -> Batch:
    streams = {}
    for name, spec in model.specs.items():
        streams[name] = _made_up(spec, expected[name].lengths(samples), mode)
    streams |= {name: streams[view.stream] for name, view in model.views().items()}
    fields = dict.fromkeys(fields_of(model), (None,) * samples)
    return Batch(streams, samples, torch.arange(samples), fields=fields)


def _made_up(spec: TokenSpec, lengths: list[int], mode: Any) -> Tokens:
    """Return tokens of a spec: ids that are no special ones, each token a word of its own."""
    total = sum(lengths)
    within = torch.cat([torch.arange(length) for length in lengths])
    structure: dict[str, Any] = {"channels": dict.fromkeys(spec.channels, torch.zeros_like(within))}
    structure["channels"] |= dict.fromkeys(spec.structure, within)
    if len(spec.kinds) > 1:
        content = spec.kinds.index("content") if "content" in spec.kinds else 0
        structure["kinds"] = torch.full((total,), content)
    if spec.edges:
        # A chain, both ways: as many edges as a molecule of so many atoms has, or a few less.
        row = torch.arange(total)[within > 0]
        structure["edges"] = torch.stack([torch.cat([row - 1, row]), torch.cat([row, row - 1])])
        edges = structure["edges"].shape[1]
        if spec.edge_kinds:
            structure["edge_kinds"] = torch.zeros(edges, dtype=torch.int64)
        if spec.edge_features:
            structure["edge_values"] = torch.zeros(edges, spec.edge_features)
    layout = Layout.of(lengths, _places(spec, within), **structure)
    if spec.vocabulary:
        plain = [i for i in range(spec.vocabulary) if i not in set(spec.special.values())]
        return Tokens(layout, ids=torch.tensor(plain or [0])[within % max(len(plain), 1)])
    with mode:
        return Tokens(layout, values=torch.empty(total, spec.features))


def _places(spec: TokenSpec, within: Tensor) -> Tensor:
    """Positions that fill the axes one after the other, the last one first."""
    longest = int(within.max()) + 1 if len(within) else 1
    side = ceil(longest ** (1 / spec.axes))
    sizes = spec.extent or (side,) * spec.axes
    return torch.stack(torch.unravel_index(within % torch.tensor(sizes).prod(), sizes), dim=1)
