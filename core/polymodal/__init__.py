"""polymodal: pre-train encoders on any mix of modalities. Importing it does not import torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal.errors import (
    ConfigError,
    DataError,
    PluginError,
    PolymodalError,
    UnreadableError,
)
from polymodal.hookspecs import hookimpl

if TYPE_CHECKING:
    from polymodal.attention import attend
    from polymodal.batch import Batch, Skipped
    from polymodal.component import (
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
        TokenSpec,
    )
    from polymodal.encoder import NO_TAPS, Encoder, Fusion, Taps
    from polymodal.evaluation import Evaluation, Features, Predictions, Probe, Score
    from polymodal.layout import Layout
    from polymodal.method import Method, Tracker
    from polymodal.model import PretrainingModel
    from polymodal.objective import Comparison, Loss, Objective, Predicted, View
    from polymodal.plugins import Registry
    from polymodal.run import Run, load
    from polymodal.source import Source
    from polymodal.step import Step
    from polymodal.teacher import Teacher
    from polymodal.tokenizer import Reader, Tokenizer
    from polymodal.tokens import Encoded, Tokens
    from polymodal.transformer import Transformer
    from polymodal.transformer_encoder import TransformerEncoder

__version__ = "0.1.0"

_HOME = {
    "attend": "attention",
    "Batch": "batch", "Skipped": "batch",
    "FieldName": "component", "FilePath": "component", "FolderPath": "component",
    "FromRun": "component", "ModuleName": "component", "Need": "component",
    "ObjectiveName": "component", "SourceName": "component", "StreamInfo": "component",
    "StreamName": "component", "TokenSpec": "component",
    "NO_TAPS": "encoder", "Encoder": "encoder", "Fusion": "encoder", "Taps": "encoder",
    "Evaluation": "evaluation", "Features": "evaluation",
    "Predictions": "evaluation", "Probe": "evaluation", "Score": "evaluation",
    "Layout": "layout",
    "Method": "method", "Tracker": "method",
    "PretrainingModel": "model",
    "Comparison": "objective", "Loss": "objective", "Objective": "objective",
    "Predicted": "objective", "View": "objective",
    "Registry": "plugins",
    "Run": "run", "load": "run",
    "Source": "source",
    "Step": "step",
    "Teacher": "teacher",
    "Reader": "tokenizer", "Tokenizer": "tokenizer",
    "Encoded": "tokens", "Tokens": "tokens",
    "Transformer": "transformer",
    "TransformerEncoder": "transformer_encoder",
}  # fmt: skip

__all__ = [
    "ConfigError", "DataError", "PluginError", "PolymodalError", "UnreadableError", "hookimpl",
    "Batch", "Comparison", "Encoded", "Encoder", "Evaluation", "Features", "FieldName", "FilePath",
    "FolderPath", "FromRun", "Fusion", "Layout", "Loss", "Method", "ModuleName", "NO_TAPS", "Need",
    "Objective", "ObjectiveName", "Predicted", "Predictions", "PretrainingModel", "Probe", "Reader",
    "Registry", "Run", "Score", "Skipped", "Source", "SourceName", "Step", "StreamInfo",
    "StreamName", "Taps", "Teacher", "TokenSpec", "Tokenizer", "Tokens", "Tracker", "Transformer",
    "TransformerEncoder", "View", "attend", "load",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
