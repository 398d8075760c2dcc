"""Conformance: checks any component must pass, as suites to subclass and as `polymodal check`.

    class TestBeats(TokenizerSuite):
        component = "ecg.beats"
        options = {"rate": 250}
        raws = [np.zeros(500), np.ones(750)]

`Example` needs no torch, so that a plugin's `polymodal_examples` stays light; everything else here
is imported on demand.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal.interfaces.example import Example

if TYPE_CHECKING:
    from polymodal.testing.checking import check_component, check_plugin
    from polymodal.testing.registry import ConformanceError, Finding, checks
    from polymodal.testing.suites import (
        EncoderSuite,
        EvaluationSuite,
        FusionSuite,
        HeadSuite,
        HidingSuite,
        MethodSuite,
        ObjectiveSuite,
        PoolerSuite,
        ReaderSuite,
        ReplacingSuite,
        SourceSuite,
        TargetSuite,
        TokenizerSuite,
        TrackerSuite,
    )
    from polymodal.testing.toys import ToyFusion, toy_batch, toy_info, toy_model, toy_tokens

_HOME = {
    "check_component": "checking", "check_plugin": "checking",
    "ConformanceError": "registry", "Finding": "registry", "checks": "registry",
    "EncoderSuite": "suites", "EvaluationSuite": "suites", "FusionSuite": "suites",
    "MethodSuite": "suites", "ObjectiveSuite": "suites", "ReaderSuite": "suites",
    "SourceSuite": "suites", "TokenizerSuite": "suites", "TrackerSuite": "suites",
    "HeadSuite": "suites", "HidingSuite": "suites", "PoolerSuite": "suites",
    "ReplacingSuite": "suites", "TargetSuite": "suites",
    "ToyFusion": "toys", "toy_batch": "toys", "toy_info": "toys", "toy_model": "toys",
    "toy_tokens": "toys",
}  # fmt: skip

__all__ = [
    "ConformanceError", "EncoderSuite", "EvaluationSuite", "Example", "Finding", "FusionSuite",
    "HeadSuite", "HidingSuite", "MethodSuite", "ObjectiveSuite", "PoolerSuite", "ReaderSuite",
    "ReplacingSuite", "SourceSuite", "TargetSuite", "TokenizerSuite", "ToyFusion", "TrackerSuite",
    "check_component", "check_plugin", "checks", "toy_batch", "toy_info",
    "toy_model", "toy_tokens",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal.testing' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
