"""Secrets of the environment: used by the run, and written down as references."""

import pytest
import yaml

from polymodal.config.reading import check_config, read_config
from polymodal.config.references import with_environment
from polymodal.runs.directory import config_yaml

TEXT = """\
streams:
  text:
    tokenizer: {use: text.wordpiece, vocabulary_size: 60}
    encoder: {use: text.transformer, size: pico}
objectives:
  words: {use: masking.tokens, stream: text}
data:
  sources:
    rows:
      use: data.table
      path: "${oc.env:FOLDER,here}/rows.jsonl"
      columns: [text, "${oc.env:KEY}"]
    more: {use: data.table, path: "${data.sources.rows.path}"}
trainer: {max_steps: 2, log_every: "${trainer.max_steps}"}
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("KEY", "secret")
    monkeypatch.delenv("FOLDER", raising=False)
    (tmp_path / "config.yaml").write_text(TEXT)
    return read_config(tmp_path / "config.yaml", files=False)


def test_what_comes_from_the_environment_is_used_and_written_as_a_reference(config):
    assert config.data.sources["rows"].options["columns"] == ["text", "secret"]
    written = config_yaml(config)
    assert "secret" not in written
    values = yaml.safe_load(written)
    rows = values["data"]["sources"]["rows"]
    assert rows["columns"] == ["text", "${oc.env:KEY}"]
    assert rows["path"] == "${oc.env:FOLDER,here}/rows.jsonl"
    # What refers to such a value has it, too; any other reference is resolved.
    assert values["data"]["sources"]["more"]["path"] == rows["path"]
    assert values["trainer"]["log_every"] == 2


def test_a_run_reads_its_references_from_the_environment_it_is_loaded_in(config, monkeypatch):
    values = yaml.safe_load(config_yaml(config))
    assert check_config(with_environment(values)).data == config.data
    monkeypatch.setenv("FOLDER", "there")
    monkeypatch.delenv("KEY")
    rows = with_environment(values)["data"]["sources"]["rows"]
    assert rows["path"] == "there/rows.jsonl"
    assert rows["columns"] == ["text", "${oc.env:KEY}"]  # what needs it will say so


def test_a_reference_that_chooses_a_component_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("OBJECTIVE", "masking.tokens")
    text = TEXT.replace("${oc.env:KEY}", "label")
    text = text.replace("masking.tokens", '"${oc.env:OBJECTIVE}"')
    (tmp_path / "config.yaml").write_text(text)
    values = yaml.safe_load(config_yaml(read_config(tmp_path / "config.yaml", files=False)))
    assert values["objectives"]["words"]["use"] == "${oc.env:OBJECTIVE}"
