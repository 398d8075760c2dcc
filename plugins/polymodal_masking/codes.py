"""Masked prediction of codes: hide values, predict their entry in a codebook (BEiT)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    FilePath,
    FromRun,
    Loss,
    Model,
    ModuleName,
    Need,
    Objective,
    Step,
    StreamInfo,
    StreamName,
    Tokens,
    gather_rows,
    world_size,
)
from polymodal_masking.choice import Choice, Rounding, check_ratio
from polymodal_masking.context import Context, at
from polymodal_masking.losses import normalized, token_loss
from polymodal_masking.shapes import Shape, check_shape, choose_places
from polymodal_masking.simmim import replaced

ROWS_A_CODE = 64  # at most so many rows of a batch for each code are clustered


def nearest_codes(
    rows: Float[Tensor, "row feature"], centres: Float[Tensor, "code feature"]
) -> Int[Tensor, " row"]:
    """Return the centre nearest to each row; of several equally near ones the first."""
    with torch.autocast(rows.device.type, enabled=False):
        rows, centres = rows.float(), centres.float()
        # |row|^2 is the same for every centre.
        return (centres.square().sum(dim=1) - 2 * rows @ centres.T).argmin(dim=1)


def kmeans(
    rows: Float[Tensor, "row feature"], codes: int, *, rounds: int = 25, seed: int = 0
) -> Float[Tensor, "code feature"]:
    """Return the centres that Lloyd's algorithm finds; rows must not be empty.

    It starts from different rows drawn at random. A centre that no row is nearest to moves to the
    row that is farthest from its own.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = rows.float()
    distinct = rows.unique(dim=0)
    order = torch.randperm(len(distinct), generator=generator).to(rows.device)
    centres = distinct[order[torch.arange(codes, device=rows.device) % len(distinct)]]
    for _ in range(rounds):
        code = nearest_codes(rows, centres)
        count = torch.bincount(code, minlength=codes)
        sums = torch.zeros_like(centres).index_add(0, code, rows)
        moved = torch.where(count[:, None] > 0, sums / count.clamp(min=1)[:, None], centres)
        lonely = (count == 0).nonzero()[:, 0][: len(distinct)]
        far = (rows - moved[code]).square().sum(dim=1).argsort(descending=True)[: len(lonely)]
        centres = moved.index_copy(0, lonely[: len(far)], rows[far])
    return centres


class Codebook(nn.Module):
    """Turns rows into codes: the nearest of its centres. Frozen once it has centres.

    Without a file, the centres are those of k-means over the first batch it meets, on all ranks;
    they are part of the model's state, so that a run that is loaded has them.

    Args:
        codes: how many.
        features: of a row.
        file: a safetensors or npy file of centres [code, feature].

    Raises:
        ValueError: fewer than two codes, no such file, or centres of another shape.
    """

    centres: Tensor
    ready: Tensor

    def __init__(self, codes: int, features: int, *, file: str | None = None):
        super().__init__()
        if codes < 2:
            raise ValueError(f"codes must be 2 or more, got {codes}")
        centres = torch.zeros(codes, features) if file is None else read_centres(file)
        if tuple(centres.shape) != (codes, features):
            raise ValueError(
                f"{file} must hold {codes} codes of {features} values, got {list(centres.shape)}"
            )
        self.register_buffer("centres", centres)
        self.register_buffer("ready", torch.tensor([file is not None]))
        self._known: bool | None = None  # `ready` on the host, read when first asked for
        self.register_load_state_dict_post_hook(_forget)

    @torch.no_grad()
    def forward(self, rows: Float[Tensor, "row feature"]) -> Int[Tensor, " row"]:
        """Return each row's code."""
        return nearest_codes(rows, self.centres)

    @torch.no_grad()
    def fit(self, rows: Float[Tensor, "row feature"]) -> None:
        """Take the centres of these rows on all ranks, unless it has some or there are none."""
        if self._known is None:
            self._known = bool(self.ready)
        if self._known:
            return
        share = max(ROWS_A_CODE * len(self.centres) // world_size(), 1)
        some = torch.linspace(0, len(rows) - 1, min(share, len(rows)), device=rows.device).long()
        everywhere = gather_rows(rows.float()[some])
        if len(everywhere):
            self.centres.copy_(kmeans(everywhere, len(self.centres)))
            self.ready.fill_(True)
            self._known = True


def _forget(module: nn.Module, _: object) -> None:
    assert isinstance(module, Codebook)
    module._known = None


def read_centres(file: str) -> Float[Tensor, "code feature"]:
    """Return the centres in a file, its one array.

    Raises:
        ValueError: it can't be read, or holds several arrays.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(file)
    try:
        if path.suffix == ".npy":
            return torch.from_numpy(np.load(path)).float()
        (centres,) = load_file(path).values()
    except (OSError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"codebook: {file} can't be read as one array: {reason}") from error
    return centres.float()


class MaskedCodes(Objective):
    """Replace a share of a stream's values by a learned token and predict their codes (BEiT).

    Bao et al. (2022), section 2.3, take the codes from a trained image tokenizer; here they are
    the entries of a codebook of a token's values, read from a file or found by k-means in the
    first batch and frozen (`Codebook`). A linear head predicts them; each hidden token is one
    count. Given other streams through a fusion, it is masked visual-token modelling (VIOLET, Fu et
    al., 2021, section 3.3). For any stream with values.

    Args:
        info: the streams.
        stream: whose values are hidden.
        codes: size of the codebook; 8192 in the paper.
        codebook: a safetensors or npy file with its centres [code, feature].
        normalize: code each token's values less their mean, over their deviation.
        ratio: share of each segment's tokens to hide; at least one.
        shape: "random" tokens, "block" (rectangles of the last two axes), or "tube" (the same
            places at all times: axes after the first).
        rounding: of the number hidden.
        fusion: name of a fusion through which the prediction sees the streams `given`, whole.
        given: those streams; only samples that have all of them are scored.
        fusion_width: of the fusion's vectors; the stream's unless given.

    Raises:
        ValueError: a share out of range, a stream without values, a shape its positions can't
            take, a codebook of another size, or a fusion that does not fit.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        codes: int = 512,
        codebook: FilePath | None = None,
        normalize: bool = False,
        ratio: float = 0.4,
        shape: Shape = "random",
        rounding: Rounding = "nearest",
        fusion: ModuleName | None = None,
        given: list[StreamName] | None = None,
        fusion_width: int | None = None,
    ):
        super().__init__()
        self.context = Context.of(info, "masking.codes", stream, given or [], fusion, fusion_width)
        Need(values=True).check(info, stream)
        features = info[stream].spec.features
        self.stream = stream
        self.normalize = normalize
        self.ratio = check_ratio(ratio)
        self.shape = check_shape(shape, info[stream])
        self.rounding: Rounding = rounding
        self.codebook = Codebook(codes, features, file=codebook)
        self.mask = nn.Parameter(torch.randn(features) * 0.02)
        self.head = nn.Linear(self.context.width, codes)

    def needs(self) -> Mapping[str, Need]:
        """Return the stream, with values, and the streams given."""
        return self.context.needs(Need(values=True))

    def attach(self, model: Model) -> None:
        """Refuse a fusion that does not fit."""
        self.context.check(model)

    def uses(self) -> tuple[str, ...]:
        """Return the fusion, if there is one."""
        return self.context.uses()

    def _choose(self, step: Step, tokens: Tokens, samples: list[int] | None) -> Choice:
        return choose_places(
            step,
            self.context,
            tokens,
            samples,
            shape=self.shape,
            ratio=self.ratio,
            rounding=self.rounding,
            leave=0,
        )

    def forward(self, step: Step) -> Loss:
        """Return the cross-entropy of the codes of hidden tokens."""
        samples = self.context.samples(step)
        tokens = self.context.tokens(step, samples)
        assert tokens.values is not None
        rows = self._choose(step, tokens, samples).hidden
        masked = tokens.with_rows(replaced(tokens.values, rows, self.mask))
        logits = self.head(at(self.context.encode(step, masked, samples), rows))
        coded = normalized(tokens.values) if self.normalize else tokens.values
        self.codebook.fit(coded)
        total, right = token_loss(logits, self.codebook(coded[rows]))
        return Loss(total, len(rows), {"accuracy": (right, len(rows))})

    def count(self, step: Step) -> int:
        """Return how many tokens will be hidden."""
        samples = self.context.samples(step)
        return len(self._choose(step, self.context.tokens(step, samples), samples).hidden)
