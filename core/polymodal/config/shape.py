"""The config's shape: its sections, their keys, defaults and bounds."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator


class Section(BaseModel):
    """A part of the config; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Slot(BaseModel):
    """A place for a component: `use` names it, keys not listed here are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: str

    @property
    def options(self) -> dict[str, Any]:
        """The component's own options."""
        return dict(self.model_extra or {})


class TrainedSlot(Slot):
    """A part with weights, where they start from and how fast they move."""

    learning_rate: float | None = Field(None, gt=0)  # instead of the optimizer's
    initialize: str | None = None  # "RUN" or "RUN#name": take the weights of another run's part


class EncoderSlot(TrainedSlot):
    """An encoder, and which of it is trained."""

    freeze: bool | list[str] = False  # True, or patterns of parameter names
    freeze_layers: int = Field(0, ge=0)  # the first so many of Encoder.layers()
    layer_decay: float | None = Field(None, gt=0, le=1)  # rate times this for each layer below


class ObjectiveSlot(TrainedSlot):
    """An objective, and its share in the loss; or in the steps, where each has one objective."""

    weight: float = Field(1.0, ge=0)  # factor of its mean loss in the total
    batch_size: int | None = Field(None, ge=1)  # of its steps; with trainer.objectives: one
    group: str | None = None  # each sample goes to one objective of those with the same group
    share: float | None = Field(None, gt=0)  # of the group's samples, relative to the others; or 1
    # Its loss makes an update of its own, before that of all others together: a further AdamW over
    # the same weights, at this rate instead of the optimizer's.
    own_update_rate: float | None = Field(None, gt=0)


class StreamConfig(Section):
    """A named input: one field, one tokenizer, one encoder."""

    tokenizer: Slot | str  # a component, or the name of one under `tokenizers`
    encoder: EncoderSlot | str  # a component, or the name of one under `encoders`
    field: str | None = None  # of the sample; the stream's own name unless given
    reader: Slot | None = None  # the tokenizer's own unless given
    many: bool = False  # the field holds a list, each item a segment of its own
    augment: bool = True  # whether training draws random augmentation


class SplitConfig(Section):
    """How a source's rows are shared out: by shares, or by a column that says it."""

    validation: float = Field(0.0, ge=0, lt=1)  # share of the rows
    test: float = Field(0.0, ge=0, lt=1)  # share of the rows
    by: str | None = None  # rows with equal values of this column stay together
    column: str | None = None  # holds "train", "validation" ("valid", "val", "dev") or "test"
    # what the column says in rows that belong to no split; else they are refused
    leave_out: list[str | int | float | bool | None] = []
    seed: int = 0

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        shares = self.validation + self.test
        if self.column is not None and (shares or self.by is not None):
            raise ValueError("give shares (validation, test, by) or a column, not both")
        if self.leave_out and self.column is None:
            raise ValueError("leave_out names what a column says: give the column, too")
        if shares >= 1:
            raise ValueError(f"validation and test take {shares:g} of the rows: none is left")
        return self


class SourceSlot(Slot):
    """A data source, its share of the batches, and its splits."""

    # Share of the samples, relative to the other sources; all have one, or all count by their rows.
    weight: float | None = Field(None, ge=0)
    # new name: column, or columns of which the first that is not missing is taken, or
    # {key: column} to make one value of several, or null to hide a field
    fields: dict[str, str | list[str] | dict[str, str] | None] = {}
    split: SplitConfig = SplitConfig()


class DataConfig(Section):
    """What is trained on, and how it is cut into batches."""

    sources: dict[str, SourceSlot] = {}
    exponent: float = Field(1.0, ge=0, le=1)  # a source without a weight has rows ** exponent
    batches: Literal["mixed", "one_source"] = "mixed"  # what a batch is drawn from
    batch_size: int = Field(64, ge=1)  # samples of an optimisation step, over all ranks
    tokens: int | None = Field(None, ge=1)  # a step's token budget; then batch_size is a bound
    group_by_length: int | None = Field(None, ge=2)  # among so many batches, like lengths together
    workers: int = Field(0, ge=0)  # processes that read and tokenize; 0: the training's
    prefetch: int = Field(4, ge=1)  # batches read ahead by each worker
    max_skipped: float = Field(0.05, ge=0, le=1)  # share of unreadable records that stops a run
    fit_samples: int = Field(50_000, ge=1)  # rows a learned vocabulary sees

    @model_validator(mode="after")
    def _one_order(self) -> Self:
        if self.batches == "one_source" and self.group_by_length is not None:
            raise ValueError(
                "give batches: one_source or group_by_length, not both: like lengths would bring "
                "several sources into a batch"
            )
        return self


Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Section):
    """AdamW and its schedule."""

    learning_rate: float = Field(5e-4, gt=0)  # the highest, after the warmup
    weight_decay: float = Field(0.05, ge=0)  # of matrices; biases and norms have none
    final_weight_decay: float | None = Field(None, ge=0)  # reached by a cosine at the last step
    betas: tuple[Decay, Decay] = (0.9, 0.98)  # of AdamW's averages of gradients and squares
    epsilon: float = Field(1e-8, gt=0)  # of AdamW
    warmup_steps: int = Field(0, ge=0)  # over which the rate rises from 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after the warmup
    final_share: float = Field(0.0, ge=0, le=1)  # of the learning rate, at the last step
    clip: float | None = Field(1.0, gt=0)  # norm of the gradient


def _known_device(device: str) -> str:
    known = ("auto", "cpu", "cuda", "hpu", "mps", "mtia", "npu", "xla", "xpu")
    if device.partition(":")[0] not in known:
        # No guess: "gpu" is nearest to "xpu".
        raise ValueError(f"no kind of device is called {device!r}. Known: {', '.join(known)}.")
    return device


class TrainerConfig(Section):
    """How long, on what, and what is written down on the way."""

    max_steps: int | None = Field(None, ge=0)  # optimisation steps
    epochs: float | None = Field(None, gt=0)  # of the largest source, instead of max_steps
    accumulate: int = Field(1, ge=1)  # micro-batches of a step
    objectives: Literal["all", "one"] = "all"  # one: drawn for each step, by weight
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # of the passes
    device: Annotated[str, AfterValidator(_known_device)] = "auto"  # "cuda", "cuda:1", "mps" ...
    strategy: Literal["ddp", "fsdp"] = "ddp"  # with several processes: copies, or shards
    compile: bool = False  # torch.compile of every transformer block
    gradient_checkpointing: bool | Literal["alternate", "selective"] = False  # see `Transformer`
    ema: float | None = Field(None, gt=0, lt=1)  # decay of an average of the weights
    log_every: int = Field(10, ge=1)  # steps, to metrics.jsonl and the trackers
    ledger_every: int | None = Field(None, ge=1)  # measure what the parts of such steps cost
    evaluate_every: int | None = Field(None, ge=1)  # steps; null: at the end alone
    evaluate_untrained: bool = True  # measure the model before its first step, for comparison
    checkpoint_every: int | None = Field(None, ge=1)  # steps
    checkpoint_minutes: float | None = Field(15.0, gt=0)  # since the last one; or null
    changed_data: bool = False  # go on with --resume though a source has other data than before
    keep_checkpoints: int = Field(2, ge=1)  # the newest so many

    @model_validator(mode="after")
    def _shardable(self) -> Self:
        if self.strategy == "fsdp" and self.ledger_every is not None:
            raise ValueError(
                "ledger_every needs the strategy ddp: it takes gradients of whole weights"
            )
        if self.strategy == "fsdp" and self.precision == "float16":
            # Each rank would look for overflow in its own shards, and skip steps by itself.
            raise ValueError(
                "float16 needs the strategy ddp: each rank sees overflow in its own shards alone. "
                "Use bfloat16 with fsdp"
            )
        return self


class PluginsConfig(Section):
    """Which plugins a run must not use."""

    block: list[str] = []  # names of plugins


class Config(Section):
    """A whole run."""

    streams: dict[str, StreamConfig]
    tokenizers: dict[str, Slot] = {}
    encoders: dict[str, EncoderSlot] = {}
    modules: dict[str, TrainedSlot] = {}
    objectives: dict[str, ObjectiveSlot]
    methods: dict[str, Slot] = {}
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig = TrainerConfig()
    evaluate: dict[str, Slot] = {}
    trackers: dict[str, Slot] = {}
    plugins: PluginsConfig = PluginsConfig()
    seed: int = 0
    _references: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def references(self) -> dict[str, str]:
        """What came from the environment, by path: written down instead of the values."""
        return self._references

    def tokenizer_slots(self) -> dict[str, Slot]:
        """Return every tokenizer by name; one written within a stream has the stream's name."""
        inline = {n: s.tokenizer for n, s in self.streams.items() if isinstance(s.tokenizer, Slot)}
        return {**self.tokenizers, **inline}

    def encoder_slots(self) -> dict[str, EncoderSlot]:
        """Return every encoder by name; one written within a stream has the stream's name."""
        inline = {
            n: s.encoder for n, s in self.streams.items() if isinstance(s.encoder, EncoderSlot)
        }
        return {**self.encoders, **inline}

    def tokenizer_of(self, stream: str) -> str:
        """Return the name of a stream's tokenizer."""
        tokenizer = self.streams[stream].tokenizer
        return tokenizer if isinstance(tokenizer, str) else stream

    def encoder_of(self, stream: str) -> str:
        """Return the name of a stream's encoder."""
        encoder = self.streams[stream].encoder
        return encoder if isinstance(encoder, str) else stream

    def slots(self) -> dict[str, tuple[str, Slot]]:
        """Return every component slot by its path: (kind wanted, slot)."""
        found: dict[str, tuple[str, Slot]] = {}
        for name, stream in self.streams.items():
            for kind, slot in (
                ("tokenizer", stream.tokenizer),
                ("encoder", stream.encoder),
                ("reader", stream.reader),
            ):
                if isinstance(slot, Slot):
                    found[f"streams.{name}.{kind}"] = (kind, slot)
        for part, kind in SECTION_KINDS.items():
            for name, slot in getattr(self, part).items():
                found[f"{part}.{name}"] = (kind, slot)
        for name, slot in self.data.sources.items():
            found[f"data.sources.{name}"] = ("source", slot)
        return found

    def uses(self) -> set[str]:
        """Return the names of all components, those of parts within options included."""
        names = {slot.use for _, slot in self.slots().values()}
        for _, slot in self.slots().values():
            names.update(use for value in slot.options.values() for use in _uses(value))
        return names


def _uses(value: Any) -> Iterator[str]:
    """Yield every component named within a value of an option."""
    if isinstance(value, dict):
        if isinstance(value.get("use"), str):
            yield value["use"]
        for inner in value.values():
            yield from _uses(inner)


SECTION_KINDS = {
    "tokenizers": "tokenizer",
    "encoders": "encoder",
    "modules": "fusion",
    "objectives": "objective",
    "methods": "method",
    "evaluate": "evaluation",
    "trackers": "tracker",
}
