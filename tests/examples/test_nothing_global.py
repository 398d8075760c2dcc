"""What a program finds unchanged after it has imported and used the toolkit."""

import json
import os
import subprocess
import sys

import pytest

# Each stage prints what it changed; `program` is what a careful host could notice.
CHILD = """
import json, logging, multiprocessing, os, random, signal, sys, warnings

def program():
    state = {
        "root handlers": [str(each) for each in logging.getLogger().handlers],
        "root level": logging.getLogger().level,
        "logger class": str(logging.getLoggerClass()),
        # torch brings sympy, whose filter is for its own kind of warning alone.
        "warnings": [str(each) for each in warnings.filters if "sympy" not in str(each)],
        "showwarning": str(warnings.showwarning),
        "random": random.getstate(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "environment": dict(os.environ),
        "signals": [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)],
        "excepthook": str(sys.excepthook),
        "path": list(sys.path),
    }
    if "numpy" in sys.modules:
        import numpy
        state["numpy random"] = str(numpy.random.get_state())
        state["numpy errors"] = numpy.geterr()
    if "torch" in sys.modules:
        import torch
        state["torch random"] = torch.get_rng_state().tolist()
        state["threads"] = (torch.get_num_threads(), torch.get_num_interop_threads())
        state["dtype"] = str(torch.get_default_dtype())
        state["device"] = str(torch.get_default_device())
        state["deterministic"] = torch.are_deterministic_algorithms_enabled()
        state["float32"] = torch.get_float32_matmul_precision()
        state["sharing"] = torch.multiprocessing.get_sharing_strategy()
        state["gradients"] = torch.is_grad_enabled()
    return state

def changed(before, after):
    found = {}
    for name in before:
        if before[name] == after[name]:
            continue
        if name == "environment":
            old, new = before[name], after[name]
            found |= {f"variable {k}": [old.get(k), new.get(k)] for k in {*old, *new}
                      if old.get(k) != new.get(k)}
        else:
            found[name] = [str(before[name])[-300:], str(after[name])[-300:]]
    return found

def report(before):
    print(json.dumps(changed(before, program())))
"""

# What libraries set for their own use, and need there.
THEIR_OWN = {
    "variable RDBASE",  # where rdkit keeps its data
    "variable TORCHINDUCTOR_CACHE_DIR",  # torch's compiler, imported by torch-geometric and others
    # scikit-learn: two OpenMP runtimes in one process would end it on some systems.
    "variable KMP_DUPLICATE_LIB_OK",
    "variable KMP_INIT_AT_FORK",
}


def changes(body):
    """Return what each stage of a program reports that it changed."""
    # Other tests import such libraries, too: what is set already can't be seen to change.
    set_before = {"TOKENIZERS_PARALLELISM", *(name.partition(" ")[2] for name in THEIR_OWN)}
    ran = subprocess.run(
        [sys.executable, "-c", CHILD + body], capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name not in set_before},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    reports = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    return [
        {name: value for name, value in json.loads(line).items() if name not in THEIR_OWN}
        for line in reports
    ]


def test_the_measure_sees_what_a_library_changes():
    body = """
before = program()
logging.info("adds a handler to the root logger")
warnings.simplefilter("ignore")
random.random()
os.environ["TOKENIZERS_PARALLELISM"] = "false"
report(before)
"""
    assert [set(found) for found in changes(body)] == [
        {"root handlers", "warnings", "random", "variable TOKENIZERS_PARALLELISM"}
    ]


IMPORTS = """
from importlib import import_module, metadata
before = program()
for point in metadata.entry_points(group="polymodal"):
    if point.dist.name == "polymodal":
        import_module(point.module)
report(before)

import torch
before = program()
import polymodal
for name in polymodal.__all__:
    getattr(polymodal, name)
report(before)

from polymodal import PluginError
from polymodal.plugins.discovery import Plugins
before = program()
loaded = 0
for plugin in Plugins().all():
    for component in plugin.components.values() if plugin.distribution == "polymodal" else ():
        try:
            component.load()
            loaded += 1
        except PluginError as error:
            assert "which is not installed" in str(error), error
assert loaded > 30
report(before)
"""


@pytest.mark.slow
def test_importing_plugins_names_and_the_modules_of_components_changes_nothing():
    assert changes(IMPORTS) == [{}, {}, {}]


BERT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
WORDS = {"use": "text.wordpiece", "vocabulary_size": 60, "max_tokens": 12}
CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"layers": 1, "width": 32, "patch_size": 16, "image_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
STREAMS = {
    "image": (
        {"use": "vision.patches", "size": 32, "patch": 16},
        {"use": "vision.timm", "model": "test_vit", "image_size": 160},
    ),
    "caption": (
        {"use": "text.open_clip", "max_tokens": 12},
        {"use": "text.open_clip", "model": "local-dir:{folder}"},
    ),
    "text": (WORDS, {"use": "text.transformers", "model": "bert", "config": BERT}),
    "again": (WORDS, {"use": "text.transformer", "width": 32, "depth": 1}),
}


@pytest.mark.slow
def test_building_a_model_and_taking_a_step_changes_nothing(tmp_path):
    """Towers of other libraries, a learned vocabulary, two objectives, an optimiser's step."""
    for package in ("timm", "open_clip", "transformers", "tokenizers", "sklearn"):
        pytest.importorskip(package)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP}))
    config = {
        "streams": {
            name: {
                "field": "image" if name == "image" else "text",
                "tokenizer": tokenizer,
                "encoder": encoder,
            }
            for name, (tokenizer, encoder) in STREAMS.items()
        },
        "data": {"sources": {"digits": {"use": "demo.digits", "samples": 32}}, "batch_size": 4},
        "objectives": {
            "align": {"use": "contrastive.infonce", "streams": list(STREAMS), "dim": 8},
            "words": {"use": "masking.tokens", "stream": "text"},
        },
        "trainer": {"max_steps": 1},
    }
    body = f"""
import torch
config = {config!r}
before = program()
import numpy as np
from polymodal.runs.build import Builder
from polymodal.config.reading import check_config
from polymodal.runs.fitting import fit_tokenizers
from polymodal.data.workers import load_batches
from polymodal.data.loader import PackedDataset, in_order
from polymodal.model.model import total_loss
builder = Builder(check_config(config))
model = builder.model()
fit_tokenizers(builder)
dataset = PackedDataset(list(builder.sources.values()), builder.readings)
batch = next(iter(load_batches(dataset, list(in_order([4], 4)))))
optimizer = torch.optim.AdamW(model.parameters())
total_loss(model(batch), model.weights).backward()
optimizer.step()
report(before)
"""
    assert changes(body.replace("{folder}", str(tmp_path))) == [{}]
