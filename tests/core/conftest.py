import importlib.util
import sys
from pathlib import Path

import pytest

from polymodal.plugins.discovery import Plugins


@pytest.fixture(scope="session")
def sensor_module():
    path = Path(__file__).with_name("sensor_plugin.py")
    spec = importlib.util.spec_from_file_location("sensor_plugin", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["sensor_plugin"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plugins(sensor_module):
    """This environment's plugins, and a modality none of them has."""
    found = Plugins()
    found.register("sensor", sensor_module)
    return found


@pytest.fixture
def sensor_config():
    """Plain values of a small run; tests change what they are about."""
    return {
        "streams": {
            "signal": {
                "tokenizer": {"use": "sensor.windows"},
                "encoder": {"use": "sensor.transformer", "size": "pico"},
            }
        },
        "objectives": {"rebuild": {"use": "masking.simmim", "stream": "signal"}},
        "data": {
            "sources": {"waves": {"use": "sensor.waves", "split": {"validation": 0.25}}},
            "batch_size": 8,
        },
        "trainer": {"max_steps": 6, "log_every": 1, "device": "cpu"},
    }
