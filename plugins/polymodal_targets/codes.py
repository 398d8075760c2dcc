"""The entry of a codebook that is nearest to a token's values."""

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal import Corrupted, FilePath, Need, StreamInfo, Target, gather_rows, world_size
from polymodal_targets.ids import token_loss
from polymodal_targets.values import normalized

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


class Codes(Target):
    """Predict the code of the values that were hidden (BEiT, Bao et al., 2022, section 2.3).

    The paper takes the codes from a trained image tokenizer; here they are the entries of a
    codebook of a token's values, read from a file or found by k-means in the first batch and frozen
    (`Codebook`). The metric is `accuracy`.

    Args:
        codes: size of the codebook; 8192 in the paper.
        codebook: a safetensors or npy file with its centres [code, feature].
        normalize: code each token's values less their mean, over their deviation.

    Raises:
        ValueError: a codebook of another size.
    """

    def __init__(
        self, codes: int = 512, *, codebook: FilePath | None = None, normalize: bool = False
    ):
        super().__init__()
        self.codes = codes
        self.file = codebook
        self.normalize = normalize

    def need(self) -> Need:
        """Return that the stream must have values."""
        return Need(values=True)

    def bind(self, info: StreamInfo) -> None:
        """Make the codebook."""
        self.outputs = self.codes
        self.codebook = Codebook(self.codes, info.spec.features, file=self.file)

    def loss(
        self,
        predicted: Float[Tensor, "scored output"],
        corrupted: Corrupted,
        rows: Int[Tensor, " scored"],
        counted: Bool[Tensor, " scored"] | None,
    ) -> tuple[Float[Tensor, ""], dict[str, tuple[Tensor, int | Tensor]]]:
        """Return the summed cross-entropy of the codes, and how many are right."""
        values = corrupted.hidden.tokens.values
        assert values is not None
        coded = normalized(values) if self.normalize else values
        self.codebook.fit(coded)
        total, right = token_loss(predicted, self.codebook(coded[rows]), counted)
        return total, {"accuracy": (right, len(rows) if counted is None else counted.sum())}
