import json

import pyarrow.parquet as pq
import pytest

from polymodal import DataError
from polymodal.commands.embedding import embed_to_parquet
from polymodal.config.reading import check_config
from polymodal.training.train import Training

WORDS = ("dog", "cat", "cow", "owl")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedding")
    rows = [{"text": f"the {word} runs"} for word in WORDS]
    values = {
        "streams": {
            "text": {
                "tokenizer": {"use": "text.wordpiece", "vocabulary_size": 60},
                "encoder": {"use": "text.transformer", "size": "pico"},
            }
        },
        "objectives": {"words": {"use": "masking.tokens", "stream": "text"}},
        "data": {"batch_size": 4, "sources": {"rows": {"use": "data.memory", "rows": rows}}},
        "trainer": {"max_steps": 1, "device": "cpu"},
    }
    Training(check_config(values), folder / "run", quiet=True).run()
    return folder / "run"


def vectors(path):
    table = pq.read_table(path)
    return dict(zip(table["name"].to_pylist(), table["vector"].to_pylist(), strict=True))


def test_a_text_file_is_embedded_by_what_it_holds_not_by_its_name(run, tmp_path):
    file = tmp_path / "note.txt"
    file.write_text("the dog runs")
    out = tmp_path / "v.parquet"
    embed_to_parquet(run, "text", [str(file)], out, values=["the dog runs", "the owl"])
    found = vectors(out)
    assert found[str(file)] == pytest.approx(found["the dog runs"])
    assert found[str(file)] != pytest.approx(found["the owl"])


def test_rows_without_the_field_and_broken_lines_are_skipped_with_their_reasons(run, tmp_path):
    table = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": "the dog"}), '{"text": ', json.dumps({"text": None}),
             json.dumps({"text": "the owl"})]  # fmt: skip
    table.write_text("\n".join(lines))
    out = tmp_path / "v.parquet"
    found = embed_to_parquet(run, "text", [str(table)], out, field="text")
    assert list(vectors(out)) == ["0", "3"] and found["rows"] == 2
    reasons = dict(found["skipped"])
    assert "line 2" in reasons["1"] and reasons["2"] == "it has no 'text'"


def test_a_column_that_is_not_there_and_nothing_readable_are_refused(run, tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("text,label\n,1\n")
    with pytest.raises(DataError, match="--field: no column 'txt'. Did you mean 'text'"):
        embed_to_parquet(run, "text", [str(table)], tmp_path / "v.parquet", field="txt")
    with pytest.raises(DataError, match="none of 1 could be read"):
        embed_to_parquet(run, "text", [str(table)], tmp_path / "v.parquet", field="text")
    assert not (tmp_path / "v.parquet").exists()


def test_a_directory_is_no_file_to_write_vectors_to(run, tmp_path):
    with pytest.raises(DataError, match="--out: .* is a directory"):
        embed_to_parquet(run, "text", [], tmp_path, values=["the dog"])


def test_a_record_of_a_table_that_leads_out_is_skipped_unless_allowed(run, tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "a.txt").write_text("the dog runs")
    table = tmp_path / "tables" / "t.jsonl"
    table.write_text(json.dumps({"text": {"path": str(tmp_path / "a.txt")}}))
    files, out = [str(table)], tmp_path / "o.parquet"
    with pytest.raises(DataError, match="outside of"):
        embed_to_parquet(run, "text", files, out, field="text")
    found = embed_to_parquet(run, "text", files, out, field="text", allow=[str(tmp_path)])
    assert found["rows"] == 1
