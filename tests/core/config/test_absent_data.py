"""What of a config may be absent: a plan reads no data, a training does."""

import pytest

from polymodal import ConfigError, read_config


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "streams:\n"
        "  text:\n"
        "    tokenizer: {use: text.wordpiece, vocabulary_size: 60}\n"
        "    encoder: {use: text.transformer, size: pico}\n"
        "objectives: {words: {use: masking.tokens, stream: text}}\n"
        "data: {sources: {rows: {use: data.table, path: gone.jsonl}}}\n"
        "trainer: {max_steps: 1}\n"
    )
    return path


def test_absent_data_is_noted_where_that_is_wanted_and_refused_otherwise(config):
    absent = []
    assert read_config(config, absent=absent).data.sources["rows"].options["path"] == "gone.jsonl"
    ((where, reason),) = absent
    assert where == "data.sources.rows.path"
    assert "gone.jsonl: no such file" in reason
    with pytest.raises(ConfigError, match=r"gone\.jsonl: no such file"):
        read_config(config)


def test_what_else_is_wrong_with_a_source_is_refused_though_its_file_is_absent(config):
    config.write_text(config.read_text().replace("gone.jsonl}", "gone.jsonl, colour: red}"))
    absent = []
    with pytest.raises(ConfigError, match="colour"):
        read_config(config, absent=absent)
