"""The visual tower of any open_clip model as the encoder of images."""

from polymodal import FromRun, TokenSpec
from polymodal_vision.open_clip_tower import OpenClipTower, statistics
from polymodal_vision.patching import PatchSpec
from polymodal_vision.tower import TowerEncoder, check_statistics, image_grid


class OpenClipEncoder(TowerEncoder):
    """An open_clip visual tower over patches of one size; pooled and tokens in the shared space.

    `vision.patches` sets what it sees: `size` the pixels, `normalize` their statistics ("clip" for
    nearly all weights; a tag's mismatch is refused, for a local file it is yours to match). `patch`
    sets only where its map is read; with a ViT take the model's own.

    Args:
        spec: of the patches; given by the run.
        model: a name open_clip knows, such as "ViT-B-32".
        pretrained: a tag of open_clip's own weights (downloaded once), or a local checkpoint of
            the whole model, both towers.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: an unknown model or tag, tokens of another kind, a size it can't take, or
            pixels normalised in another way than its weights want.
        DataError: weights that can't be downloaded or read.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        model: str,
        pretrained: str | None = None,
        gradient_checkpointing: bool = False,
    ):
        rows, columns = image_grid(spec)
        assert isinstance(spec, PatchSpec)
        wanted = None if pretrained is None else statistics(model, pretrained)
        if wanted is not None:
            check_statistics(f"open_clip's {model} ({pretrained})", wanted, spec)
        tower = OpenClipTower(
            model=model,
            size=(rows * spec.patch[0], columns * spec.patch[1]),
            pretrained=pretrained,
            gradient_checkpointing=gradient_checkpointing,
        )
        super().__init__(spec, tower)
