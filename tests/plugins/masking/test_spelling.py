# ruff: noqa: E501
"""Options as they were spelt before they were parts, and short names."""

import subprocess
import sys

import pytest

from polymodal import ConfigError
from polymodal.config.reading import check_config, read_config
from polymodal.plugins.discovery import installed
from polymodal.plugins.origin import Origin
from polymodal.runs.build import Builder
from polymodal_distillation import spelling as distillation
from polymodal_masking import spelling
from polymodal_supervised import spelling as supervised

TOKENS, LEARNED, LINEAR = (
    {"use": "masking.tokens"}, {"use": "replacing.learned"}, {"use": "heads.linear"}
)  # fmt: skip
TAGGED = {"labels": "tags", "concept": ["ADJ"]}


def random(ratio, rounding="nearest", use="hiding.tokens"):
    return {"use": use, "ratio": ratio, "rounding": rounding}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        ({"ratio": 0.3}, {"hide": {"use": "hiding.tokens", "ratio": 0.3}}),
        ({"at_least": 2}, {"hide": {"use": "hiding.tokens", "at_least": 2}}),
        ({"units": "word", "ratio": 0.2}, {"hide": {"use": "hiding.words", "ratio": 0.2}}),
        (
            {"units": "span", "span_stop": 0.3, "longest_span": 4},
            {"hide": {"use": "hiding.spans", "stop": 0.3, "longest": 4}},
        ),
        (
            {"units": "concept", **TAGGED, "amount": "ratio", "ratio": 0.1, "cover": True},
            {"hide": {"use": "hiding.concept", **TAGGED, "amount": "ratio", "ratio": 0.1,
                      "cover": True}},
        ),
        ({"span_stop": 0.3}, {"hide": {"use": "hiding.tokens"}}),  # had no effect without spans
        ({"replace": 1.0, "random": 0.0}, {"replace": {"use": "replacing.bert", "mask": 1.0, "random": 0.0}}),
        ({"random": 0.2}, {"replace": {"use": "replacing.bert", "random": 0.2}}),
        ({"replace": 0}, {"replace": {"use": "replacing.bert", "mask": 0}}),
        ({"head": "own"}, {"head": {"use": "heads.own"}}),
        ({"head": "tied", "kinds": ["code"]}, {"head": {"use": "heads.tied"}, "kinds": ["code"]}),
        ({"hide": "hiding.words", "head": "heads.own"}, {"hide": "hiding.words", "head": "heads.own"}),
    ],
)  # fmt: skip
def test_old_options_of_tokens_are_spelt_as_parts(old, new):
    assert spelling.tokens({"stream": "text", **old}) == {**TOKENS, "stream": "text", **new}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("simmim", {}, {"hide": random(0.6), "targets": {"use": "targets.values"}}),
        (
            "simmim",
            {"ratio": 0.5, "shape": "block", "rounding": "up", "distance": "mse", "normalize_targets": True},
            {"hide": random(0.5, "up", "hiding.blocks"),
             "targets": {"use": "targets.values", "distance": "mse", "normalize": True}},
        ),
        ("codes", {}, {"hide": random(0.4), "targets": {"use": "targets.kmeans"}}),
        (
            "codes", {"codes": 8, "normalize": True, "shape": "tube"},
            {"hide": random(0.4, use="hiding.tubes"),
             "targets": {"use": "targets.kmeans", "codes": 8, "normalize": True}},
        ),
    ],
)  # fmt: skip
def test_short_names_are_tokens_with_parts_and_keep_their_noise(name, old, new):
    expected = {**TOKENS, "noise": f"masking.{name}", "replace": LEARNED, "head": LINEAR, **new}
    assert getattr(spelling, name)(old) == expected


def test_a_part_that_is_given_to_a_short_name_takes_the_place_of_its_own():
    found = spelling.simmim({"head": "heads.own", "hide": "hiding.each"})
    assert (found["head"], found["hide"]) == ("heads.own", "hiding.each")
    assert spelling.kind({})["hide"] == {"use": "hiding.kind", "kind": "tag"}
    assert spelling.detection({"hide": None})["targets"] == {"use": "targets.replaced"}


def test_other_objectives_hide_by_parts_too():
    assert spelling.mae({}) == {"hide": random(0.75)}
    assert spelling.mae({"shape": "tube", "ratio": 0.9})["hide"] == random(0.9, use="hiding.tubes")
    assert spelling.cross_view({}) == {"hide": random(0.9, "down")}
    assert distillation.ibot({"shape": "random"}) == {
        "hide": {"use": "hiding.tokens", "ratio": 0.3}
    }
    assert distillation.ibot({"ratio": 0.5}) == {"hide": {"use": "hiding.blocks", "ratio": 0.5}}
    assert distillation.ibot({"masked_share": 0.5}) == {"masked_share": 0.5}
    assert supervised.pooled({"pool": "attention"}) == {"pool": {"use": "pooling.attention"}}
    assert supervised.pooled({"pool": "encoder"}) == {} == supervised.pooled({})
    assert supervised.pooled({"pool": "pooling.mean"}) == {"pool": "pooling.mean"}


CONFIG = """streams:
  text: {tokenizer: {use: text.wordpiece}, encoder: {use: text.transformer, size: pico}}
  image: {tokenizer: {use: vision.patches, size: 32, patch: 8}, encoder: {use: vision.vit, size: pico}}
data: {sources: {digits: {use: demo.digits, samples: 4}}}
trainer: {max_steps: 1}
objectives:
  task:
    %s
"""


def complaint(path, text):
    """What is said of a config with this objective, a line each."""
    path.write_text(CONFIG % text.replace("\n", "\n    "))

    def checked():
        Builder(read_config(path), Origin(path)).check()

    with pytest.raises(ConfigError) as error:
        checked()
    return str(error.value)


WORDS = "use: masking.tokens\nstream: text\n"


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        (WORDS + "units: wrod", "10: objectives.task.units", "Did you mean 'word'?"),
        (WORDS + "ratio: 2", "10: objectives.task.ratio", "hiding.tokens: ratio must lie between 0 and 1"),
        (WORDS + "units: word\nratio: wide", "11: objectives.task.ratio", "must be float"),
        (WORDS + "cover: true", "10: objectives.task.cover", "cover needs units concept"),
        (WORDS + "units: concept", "10: objectives.task.units", "go together"),
        (WORDS + "replace: 0.9\nrandom: 0.2", "10: objectives.task.replace.mask", "must not be negative nor pass 1"),
        (WORDS + "head: tide", "10: objectives.task.head", "Did you mean 'tied'?"),
        (WORDS + "ratio: 0.2\nhide: {use: hiding.words}", "10: objectives.task.ratio", "an option of the part 'hide'"),
        (WORDS + "hide:\n  use: hiding.wrods", "11: objectives.task.hide.use", "Did you mean 'hiding.words'?"),
        (WORDS + "hide:\n  use: hiding.words\n  rato: 0.2", "12: objectives.task.hide.rato", "Did you mean 'ratio'?"),
        (WORDS + "hide:\n  use: hiding.words\n  ratio: 2", "12: objectives.task.hide.ratio", "between 0 and 1, got 2"),
        (WORDS + "hide:\n  ratio: 0.2", "10: objectives.task.hide", "names no hiding"),
        ("use: masking.codes\nstream: image\ncodes: 1", "10: objectives.task.codes", "codes must be 2 or more"),
        ("use: masking.codes\nstream: image\ncodes: 5\ntargets: targets.values", "10: objectives.task.codes", "part 'targets'"),
        ("use: masking.mae\nstream: image\nshape: cube", "10: objectives.task.shape", "Did you mean 'tube'?"),
        ("use: supervised.classification\nstream: image\nlabel: label\nclasses: 3\npool: atention",
         "12: objectives.task.pool", "Did you mean 'attention'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_the_line_where_it_was_written(tmp_path, text, where, why):
    found = complaint(tmp_path / "run.yaml", text)
    assert f"run.yaml:{where}: " in found and why in found
    assert len(found.strip().splitlines()) == 1


def test_every_component_that_respells_does_so_for_its_bare_name():
    for plugin in installed().all():
        for component in plugin.components.values():
            if component.spelling:
                component.respelled({})


def test_spelling_needs_no_torch():
    code = (
        "import sys, polymodal_masking.spelling, polymodal_supervised.spelling, "
        "polymodal_distillation.spelling; print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_a_checked_config_is_in_todays_spelling_and_stays_so(toys):
    values = {
        "streams": {
            "text": {"tokenizer": "text.wordpiece", "encoder": {"use": "text.transformer"}}
        },
        "objectives": {"task": {"use": "masking.tokens", "stream": "text", "units": "word"}},
        "data": {"sources": {"digits": {"use": "demo.digits", "samples": 4}}},
        "trainer": {"max_steps": 1},
    }
    config = check_config(values)
    spelt = config.model_dump(mode="json")
    assert spelt["objectives"]["task"]["hide"] == {"use": "hiding.words"}
    assert check_config(spelt) == config
