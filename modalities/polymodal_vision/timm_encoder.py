"""Any timm model as the encoder of images."""

from polymodal import FromRun, TokenSpec
from polymodal_vision.patching import PatchSpec
from polymodal_vision.timm_tower import TimmTower
from polymodal_vision.tower import TowerEncoder, image_grid


class TimmEncoder(TowerEncoder):
    """A timm model over patches of one size; pooled is the model's own, before the classes.

    `vision.patches` sets what it sees: `size` the pixels, `normalize` their statistics (with
    timm's own weights a mismatch is refused; for a local file it is yours to match). `patch` sets
    only where its map is read; with a ViT take the model's own, and the tokens are its tokens.
    The hidden layers a tap may ask for are timm's `forward_intermediates`.

    Args:
        spec: of the patches; given by the run.
        model: a name timm knows, such as "resnet18" or "vit_base_patch16_224.dino".
        pretrained: True for timm's own weights (downloaded once), or a local file of weights.
        image_size: pixels are resized to this before the model sees them; None: as they come.
        drop_path: the rate of stochastic depth.
        gradient_checkpointing: recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: an unknown model, tokens of another kind, a size it can't take, or pixels
            normalised in another way than its weights want.
        DataError: weights that can't be downloaded or read.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        model: str,
        pretrained: bool | str = False,
        image_size: int | tuple[int, int] | None = None,
        drop_path: float = 0.0,
        gradient_checkpointing: bool = False,
    ):
        rows, columns = image_grid(spec)
        assert isinstance(spec, PatchSpec)
        tower = TimmTower(
            model=model,
            size=(rows * spec.patch[0], columns * spec.patch[1]),
            pretrained=pretrained,
            image_size=image_size,
            drop_path=drop_path,
            gradient_checkpointing=gradient_checkpointing,
        )
        tower.check_statistics(spec)
        super().__init__(spec, tower)
