import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[3]
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
    rows: {use: data.table, path: rows.jsonl, split: {validation: 0.25}}
trainer: {max_steps: 2, log_every: 1, device: cpu}
"""


@pytest.fixture
def polymodal(warm):
    def polymodal(*arguments, cwd, code=0):
        found = subprocess.run(
            [warm, "-m", "polymodal", *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == code, found.stderr or found.stdout
        return found

    return polymodal


@pytest.fixture
def folder(tmp_path):
    rows = [{"text": f"the {word} runs", "label": word} for word in ("dog", "cat") * 4]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.slow
def test_train_evaluate_and_embed_from_the_command_line(folder, polymodal):
    # Once, what a user really starts.
    command = [sys.executable, "-m", "polymodal", "train", "run.yaml", "seed=3", "--out", "out"]
    subprocess.run(command, cwd=folder, check=True)
    found = polymodal("train", "run.yaml", "--out", "out", cwd=folder, code=2)
    assert "out holds another run; pass --resume" in found.stderr
    assert "Traceback" not in found.stderr
    found = polymodal(
        "embed", "out", "rows.jsonl", "--stream", "text", "--field", "text", "-o", "v.parquet",
        "--json", cwd=folder,
    )  # fmt: skip
    assert json.loads(found.stdout)["rows"] == 8
    table = pq.read_table(folder / "v.parquet")
    assert table.num_rows == 8 and len(table["vector"][0]) == 64
    found = polymodal("embed", "out", "--stream", "txt", "--value", "x", cwd=folder, code=2)
    assert "no stream is called 'txt'. Did you mean 'text'?" in found.stderr
    found = polymodal("embed", "out", "rows.json", "--stream", "text", cwd=folder, code=2)
    assert "rows.json: no such file. Did you mean 'rows.jsonl'?" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "rum.yaml"], "rum.yaml: no such file. Did you mean 'run.yaml'?"),
        (["train", "run.yaml", "trainer.max_stps=3"], "command line: trainer.max_stps: unknown"),
        (["describe", "masking.tokns"], "Did you mean 'masking.tokens'?"),
        (["evaluate", "nowhere"], "nowhere"),
        (["train", "run.yaml", "--out", "/proc/nowhere"], "/proc/nowhere can't be written to"),
        (
            ["train", "run.yaml", "trainer.device=gpu"],
            "no kind of device is called 'gpu'. Known: auto, cpu, cuda",
        ),
        (["plan", "run.yaml", "objectives.words.stream=txt"], "no stream is called 'txt'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(folder, polymodal, arguments, text):
    found = polymodal(*arguments, cwd=folder, code=2)
    assert text in found.stderr and "Traceback" not in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not (folder / "runs").exists()


def test_debug_shows_the_traceback(folder, polymodal):
    found = polymodal("train", "rum.yaml", "--debug", cwd=folder, code=2)
    assert "Traceback" in found.stderr


def test_plan_reads_no_data_and_imports_only_what_its_components_need(folder, polymodal):
    (folder / "rows.jsonl").write_text("these are no records")
    found = polymodal("plan", "run.yaml", "--json", cwd=folder)
    plan = json.loads(found.stdout)
    assert plan["streams"][0]["vocabulary"] == 60 and plan["encoders"][0]["width"] == 64
    code = (
        "import sys\n"
        "from polymodal.config.reading import read_config\n"
        "from polymodal.commands.planning import make_plan\n"
        "make_plan(read_config('run.yaml'))\n"
        "for name in ('timm', 'open_clip', 'librosa', 'torch_geometric', 'av', 'sklearn'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


@pytest.mark.slow
def test_planning_the_quickstart_reads_no_row_and_imports_no_package_it_does_not_name():
    for name in ("sklearn", "librosa", "torch_geometric", "tokenizers"):
        pytest.importorskip(name)
    code = (
        "import sys\n"
        "from polymodal.config.reading import read_config\n"
        "from polymodal.commands.planning import make_plan\n"
        "from polymodal.data.splits import SplitSource\n"
        "def refuse(*_): raise AssertionError('data was read')\n"
        "SplitSource.read = SplitSource.rows_of = refuse\n"
        f"make_plan(read_config({str(ROOT / 'examples' / 'quickstart.yaml')!r}))\n"
        "foreign = {'timm', 'open_clip', 'torchvision', 'rdkit', 'datasets', 'dnaio',\n"
        "           'tensorboard', 'polymodal_data', 'polymodal_generation'}\n"
        "assert not foreign & set(sys.modules), foreign & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plugins_and_describe_speak_json(folder, polymodal):
    listed = json.loads(polymodal("plugins", "--json", cwd=folder).stdout)
    assert {"vision", "masking"} <= {plugin["name"] for plugin in listed}
    (found,) = json.loads(polymodal("describe", "vision.patches", "--json", cwd=folder).stdout)
    assert "patch" in {option["name"] for option in found["options"]}


def test_describe_tells_of_each_kind_that_shares_a_name(folder, polymodal):
    found = json.loads(polymodal("describe", "text.open_clip", "--json", cwd=folder).stdout)
    assert {each["kind"] for each in found} == {"tokenizer", "encoder"}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_config_is_right(path):
    from polymodal.config.reading import read_config

    assert read_config(path, files=False).streams
