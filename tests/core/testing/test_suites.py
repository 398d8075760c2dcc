# ruff: noqa: RUF012
"""Suites as an author of a plugin uses them, and what they do with a component that fails."""

import importlib.util
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np
import pytest

from polymodal import PolymodalError
from polymodal.plugins.discovery import Plugins
from polymodal.testing import (
    ConformanceError,
    EncoderSuite,
    Example,
    ObjectiveSuite,
    ReaderSuite,
    SourceSuite,
    TokenizerSuite,
    checks,
)
from polymodal.testing.tokenizers import TokenizerSubject


def _sensor_plugin():
    path = Path(__file__).parents[1] / "sensor_plugin.py"
    spec = importlib.util.spec_from_file_location("conformance_sensor_plugin", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance_sensor_plugin"] = module
    spec.loader.exec_module(module)
    found = Plugins()
    found.register("sensor", module)
    return found


PLUGINS = _sensor_plugin()
WAVES = [np.sin(np.arange(size, dtype=np.float32)) for size in (16, 9, 30)]


class TestWindows(TokenizerSuite):
    plugins = PLUGINS
    component = "sensor.windows"
    options = {"window": 5}
    raws = WAVES


class TestSignal(ReaderSuite):
    plugins = PLUGINS
    component = "sensor.signal"
    values = [[1.0, 2.0], np.arange(3.0)]
    skip = {"refusals": "the sensor's own tests know what it refuses"}


class TestWaves(SourceSuite):
    plugins = PLUGINS
    component = "sensor.waves"
    options = {"samples": 8, "broken": 3}


class TestTransformer(EncoderSuite):
    plugins = PLUGINS
    component = "sensor.transformer"
    options = {"width": 16, "depth": 1, "heads": 2}
    tokenizer = {"use": "sensor.windows", "window": 5}
    raws = WAVES


class TestAnObjectiveWithAPluginsOwnExample(ObjectiveSuite):
    component = "generation.next_patch"


def suite(**attributes):
    """An instance of a suite that pytest does not collect."""
    return type("Suite", (TokenizerSuite,), {"plugins": PLUGINS, **attributes})()


def test_a_suite_has_a_test_for_each_check():
    methods = {name for name in dir(TokenizerSuite) if name.startswith("test_")}
    assert methods == {f"test_{name}" for name in checks("tokenizer")}
    assert TokenizerSuite.test_packing.__doc__ == checks("tokenizer")["packing"].summary


def test_a_failing_check_raises_and_those_after_it_are_skipped():
    module = sys.modules["conformance_sensor_plugin"]

    class Short(module.Windows):
        @property
        def spec(self):
            return module.TokenSpec(features=self.window, extent=(2,))

    class Suite(TokenizerSuite):
        def subject(self):
            return TokenizerSubject(Short, WAVES)

    with pytest.raises(ConformanceError, match="positions on axis 0 reach 6, but the spec's"):
        Suite().test_spec()
    with pytest.raises(unittest.SkipTest, match="comes after spec"):
        Suite().test_absent()
    Suite().test_saving()


def test_a_crash_keeps_its_own_exception():
    class Suite(TokenizerSuite):
        def subject(self):
            return TokenizerSubject(sys.modules["conformance_sensor_plugin"].Windows, [3])

    with pytest.raises(TypeError, match="has no len"):
        Suite().test_encodes()


def test_no_raw_values_is_an_error_that_says_what_to_give():
    with pytest.raises(ConformanceError, match="give `raws`"):
        suite(component="sensor.windows").test_encodes()


def test_a_misspelt_check_to_skip_is_an_error():
    found = suite(component="sensor.windows", raws=WAVES, skip={"pakcing": "never mind"})
    with pytest.raises(PolymodalError, match="Did you mean 'packing'"):
        found.test_encodes()


def test_an_example_needs_neither_torch_nor_numpy():
    code = "import sys; from polymodal.testing import Example; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
    assert Example("a.b", "reader").options == {}


@pytest.mark.slow
def test_the_suites_need_no_pytest():
    code = "import sys; import polymodal.testing.suites; print('pytest' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
