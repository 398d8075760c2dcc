import json

import pytest

from polymodal import ConfigError, DataError
from polymodal.commands.comparing import compare, markdown, read_comparison

CONFIG = """
streams:
  text:
    tokenizer: {use: text.wordpiece, vocabulary_size: 60}
    encoder: {use: text.transformer, size: pico}
objectives:
  words: {use: masking.tokens, stream: text}
data:
  batch_size: 4
  sources:
    rows: {use: data.table, path: FOLDER/rows.jsonl, split: {validation: 0.25}}
trainer: {max_steps: 2, log_every: 1, device: cpu}
evaluate:
  words: {use: evaluation.held_out, objective: words, source: rows}
"""


@pytest.fixture
def folder(tmp_path):
    rows = [{"text": f"the {word} runs"} for word in ("dog", "cat", "bird", "cow") * 4]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "small.yaml").write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    return tmp_path


def write(folder, text):
    path = folder / "comparison.yaml"
    path.write_text(text)
    return path


def test_each_arm_and_seed_is_trained_once_and_summed_up(folder):
    text = (
        "config: small.yaml\nseeds: [0, 1]\narms:\n  base: {}\n  more: {trainer.max_steps: 4}\n"
        "  tuned:\n    - {}\n"
        "    - {streams.text.encoder.initialize: '{previous}', trainer.max_steps: 1}\n"
    )
    comparison = read_comparison(write(folder, text))
    rows = compare(comparison, folder / "out")
    loss = next(row for row in rows if row["metric"] == "loss")
    assert {arm: len(each["values"]) for arm, each in loss["arms"].items()} == {
        "base": 2, "more": 2, "tuned": 2,
    }  # fmt: skip
    found = json.loads((folder / "out" / "more" / "seed-1" / "evaluation.json").read_text())
    assert found["step"] == 4 and found["scores"][0]["value"] == loss["arms"]["more"]["values"][1]
    # The second stage starts from the first: its untrained figure is the first one's.
    assert loss["arms"]["tuned"]["untrained"] != loss["arms"]["base"]["untrained"]
    table = (folder / "out" / "results.md").read_text()
    assert table.startswith("| evaluation | metric | base | more | tuned | untrained | chance |")
    written = folder / "out" / "base" / "seed-0" / "metrics.jsonl"
    before = written.stat().st_mtime_ns
    assert compare(comparison, folder / "out") == rows
    assert written.stat().st_mtime_ns == before  # nothing was trained again


def test_a_folder_with_another_config_is_left_alone(folder):
    compare(read_comparison(write(folder, "config: small.yaml\narms: {a: {}}")), folder / "out")
    changed = read_comparison(
        write(folder, "config: small.yaml\narms: {a: {trainer.max_steps: 3}}")
    )
    with pytest.raises(DataError, match="another config"):
        compare(changed, folder / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms: {a: {}}", "no config is named"),
        ("config: small.yaml", "must hold the keys"),
        ("config: small.yaml\narm: {}\narms: {a: {}}", "unknown key 'arm'. Did you mean 'arms'"),
        ("config: small.yaml\nseeds: 3\narms: {a: {}}", "seeds must be a list"),
        ("config: small.yaml\narms: {a: 3}", "arms.a: must be changes"),
        ("config: small.yaml\narms: {a: {trainer.max_stps: 3}}", "Did you mean 'max_steps'"),
        ("config: smal.yaml\narms: {a: {}}", "no such file. Did you mean 'small.yaml'"),
    ],
)
def test_a_wrong_comparison_is_refused_before_anything_is_trained(folder, text, message):
    with pytest.raises(ConfigError, match=message):
        read_comparison(write(folder, text))


def test_the_table_shows_mean_and_spread():
    row = {
        "evaluation": "probe", "metric": "accuracy", "chance": 0.1,
        "arms": {"a": {"values": [0.5, 0.7], "untrained": [0.2, 0.2]}, "b": {"values": [0.4],
                 "untrained": [None]}},
    }  # fmt: skip
    assert markdown([row]).splitlines()[-1] == (
        "| probe | accuracy | 0.600 ± 0.141 | 0.400 | 0.200 ± 0.000 | 0.100 |"
    )
