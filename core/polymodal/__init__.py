"""polymodal: pre-train encoders on any mix of modalities. Importing it does not import torch.

All that users and plugins need is here and in `polymodal.testing`; the rooms behind are private.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal.ground.errors import (
    ConfigError,
    DataError,
    PluginError,
    PolymodalError,
    UnreadableError,
)
from polymodal.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from polymodal.config.reading import read_config
    from polymodal.config.shape import Config
    from polymodal.data.splits import split_named
    from polymodal.ground.arrays import read_npy, read_npz
    from polymodal.ground.distributed import gather_rows, rank, sum_over_ranks, world_size
    from polymodal.ground.errors import nearest
    from polymodal.ground.files import (
        bytes_or_path,
        confine,
        file_pieces,
        find_files,
        find_folder,
        fingerprint_files,
    )
    from polymodal.ground.labels import class_name
    from polymodal.ground.unpacking import check_growth
    from polymodal.interfaces.capabilities import (
        Asking,
        Phase,
        Phased,
        Predicted,
        Predicting,
        Representing,
        Scoring,
        Sharing,
    )
    from polymodal.interfaces.component import (
        FieldName,
        FilePath,
        FolderPath,
        FromRun,
        ModuleName,
        Need,
        ObjectiveName,
        SourceName,
        StreamInfo,
        StreamName,
    )
    from polymodal.interfaces.encoder import NO_TAPS, Encoder, Fusion, Taps
    from polymodal.interfaces.evaluation import (
        Each,
        Evaluation,
        Features,
        Predictions,
        Probe,
        Score,
        Split,
    )
    from polymodal.interfaces.groups import Default, Presets, filled, taken
    from polymodal.interfaces.method import Method, Tracker
    from polymodal.interfaces.model import Model
    from polymodal.interfaces.objective import Comparison, Loss, Objective, View
    from polymodal.interfaces.parts import (
        Candidates,
        Corrupted,
        Head,
        Hidden,
        Hiding,
        Part,
        Pooler,
        Replacing,
        Target,
        Unembed,
        count_of,
    )
    from polymodal.interfaces.source import Sample, Source
    from polymodal.interfaces.step import Step
    from polymodal.interfaces.teacher import Teacher
    from polymodal.interfaces.tokenizer import Reader, Tokenizer
    from polymodal.model.model import PretrainingModel, total_loss
    from polymodal.nn.blocks import (
        EPSILON,
        Activation,
        Block,
        Maps,
        Norm,
        Point,
        SelfAttention,
        Surroundings,
    )
    from polymodal.nn.checkpointing import Checkpointing
    from polymodal.nn.frequencies import Frequencies
    from polymodal.nn.merging import (
        Merger,
        MergingEncoder,
        adjacent_pairs,
        bipartite_pairs,
        closest_pairs,
        planned,
        rejoined,
        unit,
        window_targets,
        windows,
    )
    from polymodal.nn.positions import Positions, Rotation
    from polymodal.nn.renaming import rename_keys
    from polymodal.nn.sizes import BlockOptions, SizeName, TransformerOptions, dimensions
    from polymodal.nn.stem import Stem
    from polymodal.nn.transformer import Transformed, Transformer
    from polymodal.nn.transformer_encoder import Pool, PositionChoice, TransformerEncoder
    from polymodal.packed.attention import attend, attention_maps
    from polymodal.packed.batch import Batch, Skipped
    from polymodal.packed.chaining import join_layouts
    from polymodal.packed.choice import (
        Choice,
        Rounding,
        by_score,
        check_ratio,
        choose,
        hidden_counts,
        hideable,
        put_last,
    )
    from polymodal.packed.layout import Layout, ranges
    from polymodal.packed.noise import hash_words, mix
    from polymodal.packed.spec import TokenSpec
    from polymodal.packed.tokens import Encoded, Tokens, segment_mean
    from polymodal.plugins.containment import contained
    from polymodal.plugins.discovery import Plugins, installed
    from polymodal.plugins.registry import Registry
    from polymodal.runs.run import Run, load
    from polymodal.training.schedule import cosine

__version__ = "0.1.0"

# Where each public name lives; it is imported when it is asked for.
_ROOMS = {
    "config.reading": "read_config",
    "config.shape": "Config",
    "data.splits": "split_named",
    "ground.arrays": "read_npy read_npz",
    "ground.distributed": "gather_rows rank sum_over_ranks world_size",
    "ground.errors": "nearest",
    "ground.files": "bytes_or_path confine file_pieces find_files find_folder fingerprint_files",
    "ground.labels": "class_name",
    "ground.unpacking": "check_growth",
    "interfaces.capabilities": (
        "Asking Phase Phased Predicted Predicting Representing Scoring Sharing"
    ),
    "interfaces.component": (
        "FieldName FilePath FolderPath FromRun ModuleName Need ObjectiveName SourceName "
        "StreamInfo StreamName"
    ),
    "interfaces.encoder": "Encoder Fusion NO_TAPS Taps",
    "interfaces.evaluation": "Each Evaluation Features Predictions Probe Score Split",
    "interfaces.groups": "Default Presets filled taken",
    "interfaces.method": "Method Tracker",
    "interfaces.model": "Model",
    "interfaces.objective": "Comparison Loss Objective View",
    "interfaces.parts": (
        "Candidates Corrupted Head Hidden Hiding Part Pooler Replacing Target Unembed count_of"
    ),
    "interfaces.source": "Sample Source",
    "interfaces.step": "Step",
    "interfaces.teacher": "Teacher",
    "interfaces.tokenizer": "Reader Tokenizer",
    "model.model": "PretrainingModel total_loss",
    "nn.blocks": "Activation Block EPSILON Maps Norm Point SelfAttention Surroundings",
    "nn.checkpointing": "Checkpointing",
    "nn.frequencies": "Frequencies",
    "nn.merging": (
        "Merger MergingEncoder adjacent_pairs bipartite_pairs closest_pairs planned rejoined "
        "unit window_targets windows"
    ),
    "nn.positions": "Positions Rotation",
    "nn.renaming": "rename_keys",
    "nn.sizes": "BlockOptions SizeName TransformerOptions dimensions",
    "nn.stem": "Stem",
    "nn.transformer": "Transformed Transformer",
    "nn.transformer_encoder": "Pool PositionChoice TransformerEncoder",
    "packed.attention": "attend attention_maps",
    "packed.batch": "Batch Skipped",
    "packed.chaining": "join_layouts",
    "packed.choice": "Choice Rounding by_score check_ratio choose hidden_counts hideable put_last",
    "packed.layout": "Layout ranges",
    "packed.noise": "hash_words mix",
    "packed.spec": "TokenSpec",
    "packed.tokens": "Encoded Tokens segment_mean",
    "plugins.containment": "contained",
    "plugins.discovery": "Plugins installed",
    "plugins.registry": "Registry",
    "runs.run": "Run load",
    "training.schedule": "cosine",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [
    "ConfigError", "DataError", "PluginError", "PolymodalError", "UnreadableError", "hookimpl",
    "Activation", "Asking", "Batch", "Block", "BlockOptions", "Candidates", "Checkpointing",
    "Choice", "Comparison", "Config", "Corrupted", "Default", "EPSILON", "Each", "Encoded",
    "Encoder", "Evaluation", "Features", "FieldName", "FilePath", "FolderPath", "Frequencies",
    "FromRun", "Fusion", "Head", "Hidden", "Hiding", "Layout", "Loss", "Maps", "Merger",
    "MergingEncoder", "Method", "Model", "ModuleName", "NO_TAPS", "Need", "Norm", "Objective",
    "ObjectiveName", "Part", "Phase", "Phased", "Plugins", "Point", "Pool", "Pooler",
    "PositionChoice", "Positions", "Predicted", "Predicting", "Predictions", "Presets",
    "PretrainingModel", "Probe", "Reader", "Registry", "Replacing", "Representing", "Rotation",
    "Rounding", "Run", "Sample", "Score", "Scoring", "SelfAttention", "Sharing", "SizeName",
    "Skipped", "Source", "SourceName", "Split", "Stem", "Step", "StreamInfo", "StreamName",
    "Surroundings", "Taps", "Target", "Teacher", "TokenSpec", "Tokenizer", "Tokens", "Tracker",
    "Transformed", "Transformer", "TransformerEncoder", "TransformerOptions", "Unembed", "View",
    "adjacent_pairs", "attend", "attention_maps", "bipartite_pairs", "by_score",
    "bytes_or_path", "check_growth", "check_ratio", "choose", "class_name", "closest_pairs",
    "confine", "contained", "cosine", "count_of", "dimensions", "file_pieces", "filled",
    "find_files", "find_folder", "fingerprint_files", "gather_rows", "hash_words",
    "hidden_counts", "hideable", "installed", "join_layouts", "load", "mix", "nearest",
    "planned", "put_last", "ranges", "rank", "read_config", "read_npy", "read_npz", "rejoined",
    "rename_keys", "segment_mean", "split_named", "sum_over_ranks", "taken", "total_loss",
    "unit", "window_targets", "windows", "world_size",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
