"""Suites to subclass: each check of a kind becomes a test method. Needs no pytest itself."""

import unittest
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, ClassVar

from polymodal.interfaces.example import Example
from polymodal.plugins.discovery import Plugins, installed
from polymodal.testing.building import examples_of, prepared, subject_of
from polymodal.testing.registry import Examination, checks


class Suite:
    """The checks of one kind of component, as test methods.

    Say which component, its options and inputs as class attributes, or override `example`, or
    `subject` for a class that no plugin registers.
    """

    kind: ClassVar[str]
    component: ClassVar[str] = ""
    options: ClassVar[Mapping[str, Any] | None] = None
    skip: ClassVar[Mapping[str, str]] = {}  # check: why it does not apply
    plugins: ClassVar[Plugins | None] = None  # those of this environment unless given

    def example(self) -> Example:
        """Return the case to check: what the class says, or else the plugin's own example."""
        plugins = self.plugins or installed()
        found = examples_of(plugins, self.component, self.kind) if self.options is None else []
        example = found[0] if found else Example(self.component, self.kind, self.options or {})
        return self.completed(example)

    def completed(self, example: Example) -> Example:
        """Return the example with what else the class says."""
        return replace(example, skip={**example.skip, **self.skip})

    def subject(self) -> Any:
        """Return what the checks examine; override to examine a class without a plugin."""
        ready = type(self)._files.enter_context(prepared(self.example()))
        return subject_of(ready, self.plugins or installed())

    def skipped(self) -> Mapping[str, str]:
        """Return the checks that do not apply, and why."""
        return self.example().skip if self.component else self.skip

    _files: ClassVar[ExitStack]
    _examination: ClassVar[Examination | None]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._examination = None
        cls._files = ExitStack()
        if "kind" in vars(cls):
            for name in checks(cls.kind):
                setattr(cls, f"test_{name}", _test(name, checks(cls.kind)[name].summary))

    @classmethod
    def teardown_class(cls) -> None:
        """Remove what the example wrote; pytest calls this."""
        cls._examination = None
        cls._files.close()

    def examined(self) -> Examination:
        """Return the examination that this class's tests share."""
        cls = type(self)
        if cls._examination is None:
            name = self.component or cls.__name__
            cls._examination = Examination(name, self.kind, self.subject(), self.skipped())
        return cls._examination


def _test(name: str, summary: str) -> Callable[[Suite], None]:
    def test(self: Suite) -> None:
        examination = self.examined()
        finding = examination.finding(name)
        if finding.status == "skipped":
            raise unittest.SkipTest(finding.message)
        if finding.status == "failed":
            raise examination.errors[name]

    test.__name__ = f"test_{name}"
    test.__doc__ = summary
    return test


class TokenizerSuite(Suite):
    """Every rule of a tokenizer. `raws`: raw values, as its reader returns them."""

    kind = "tokenizer"
    raws: ClassVar[Sequence[Any] | None] = None

    def completed(self, example: Example) -> Example:
        """Return the example with the class's raw values."""
        example = super().completed(example)
        return example if self.raws is None else replace(example, raws=self.raws)


class ReaderSuite(Suite):
    """Every rule of a reader. `values`: what records hold."""

    kind = "reader"
    values: ClassVar[Sequence[Any] | None] = None

    def completed(self, example: Example) -> Example:
        """Return the example with the class's values."""
        example = super().completed(example)
        return example if self.values is None else replace(example, values=self.values)


class EncoderSuite(Suite):
    """Every rule of an encoder. `tokenizer`, as in a config, and `raws` make its tokens."""

    kind = "encoder"
    tokenizer: ClassVar[Mapping[str, Any] | None] = None
    raws: ClassVar[Sequence[Any] | None] = None

    def completed(self, example: Example) -> Example:
        """Return the example with the class's tokenizer and raw values."""
        example = super().completed(example)
        if self.tokenizer is not None:
            example = replace(example, tokenizer=self.tokenizer)
        return example if self.raws is None else replace(example, raws=self.raws)


class ObjectiveSuite(Suite):
    """Every rule of an objective; its options name the kit's own streams (see `Example`)."""

    kind = "objective"


class FusionSuite(Suite):
    """Every rule of a fusion; its options name the kit's own streams (see `Example`)."""

    kind = "fusion"


class SourceSuite(Suite):
    """Every rule of a source."""

    kind = "source"


class EvaluationSuite(Suite):
    """Every rule of an evaluation; its options name the kit's own streams (see `Example`)."""

    kind = "evaluation"


class MethodSuite(Suite):
    """Every rule of a method."""

    kind = "method"


class TrackerSuite(Suite):
    """Every rule of a tracker."""

    kind = "tracker"


class HidingSuite(Suite):
    """Every rule of a part that hides tokens."""

    kind = "hiding"


class ReplacingSuite(Suite):
    """Every rule of a part that puts something in the place of hidden tokens."""

    kind = "replacing"


class TargetSuite(Suite):
    """Every rule of a part that says what is predicted."""

    kind = "target"


class HeadSuite(Suite):
    """Every rule of a part that predicts."""

    kind = "head"


class PoolerSuite(Suite):
    """Every rule of a part that makes one vector of many."""

    kind = "pooler"
