"""Wrong configs, each refused before data is read, with its line and what would be right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from wrong_cases import BUILD, RIGHT, TEXT, Wrong

from polymodal.config.reading import read_config
from polymodal.ground.errors import ConfigError
from polymodal.plugins.origin import Origin


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with files that exist and hold nothing a source could read."""
    for name in ("rows.jsonl", "genes.fa"):
        (tmp_path / name).write_text("not what the source reads")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, case: Wrong, name: str = "run") -> Path:
    assert RIGHT.count(case.old) >= 1
    text = RIGHT.replace(case.old, case.new, 1)
    if case.where == "encoders.both":  # a second place to change
        for use in ("text.transformer", "vision.vit"):
            text = text.replace(f"    encoder: {{use: {use}, size: pico}}", "    encoder: both")
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def expected(path: Path, case: Wrong) -> str:
    text = path.read_text()
    line = text[: text.index(case.at or case.new)].count("\n") + 1
    return f"{path}:{line}: {case.where}: "


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """What is wrong with every config of TEXT, found by one process that must not import torch."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("rows.jsonl", "genes.fa"):
        (folder / name).write_text("not what the source reads")
    paths = {name: write(folder, case, name) for name, case in TEXT.items()}
    code = (
        "import json, sys\n"
        "from polymodal.config.reading import read_config\n"
        "from polymodal.ground.errors import ConfigError\n"
        "found = {}\n"
        "for name, path in json.load(sys.stdin).items():\n"
        "    try:\n"
        "        read_config(path)\n"
        "    except ConfigError as error:\n"
        "        found[name] = error.problems\n"
        "print(json.dumps([found, 'torch' in sys.modules]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({name: str(path) for name, path in paths.items()}),
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    found, torch_imported = json.loads(ran.stdout)
    return paths, found, torch_imported


@pytest.mark.parametrize("name", TEXT)
def test_a_wrong_config_is_refused_by_its_text(refusals, name):
    paths, found, _ = refusals
    case = TEXT[name]
    assert name in found, "it was taken for right"
    problems = [
        problem for problem in found[name] if problem.startswith(expected(paths[name], case))
    ]
    assert problems and case.text in problems[0], found[name]
    assert all("\n" not in problem for problem in found[name])


@pytest.mark.parametrize("name", TEXT)
def test_a_mistake_is_told_once(refusals, name):
    _, found, _ = refusals
    # A blocked plugin is wrong wherever it is used.
    several = {"blocked plugin": 2}
    assert len(found[name]) == several.get(name, 1), found[name]


def test_text_is_checked_without_torch(refusals):
    assert refusals[2] is False


@pytest.mark.parametrize("name", BUILD)
def test_parts_that_do_not_fit_are_refused_before_data_is_read(folder, name):
    case = BUILD[name]
    path = write(folder, case)
    with pytest.raises(ConfigError) as caught:
        make(path)
    (problem,) = caught.value.problems
    assert problem.startswith(expected(path, case)), problem
    assert case.text in problem and "\n" not in problem


def make(path, *overrides):
    from polymodal.commands.planning import make_plan

    return make_plan(read_config(path, overrides), Origin(path, overrides))


def test_the_config_that_all_others_differ_from_is_right(folder):
    path = folder / "run.yaml"
    path.write_text(RIGHT)
    assert len(make(path)["objectives"]) == 3


def test_mistakes_of_all_kinds_are_reported_at_once_in_the_order_of_the_file(folder, monkeypatch):
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    path = folder / "run.yaml"
    text = RIGHT
    for old, new in (
        ("patch: 4", "pach: 4"),
        ("fusion: joint", "fusion: jont"),
        ("rows.jsonl", "'${oc.env:NO_SUCH_FOLDER}/rows.jsonl'"),
        ("genes.fa", "gene.fa"),
        ("objective: align", "objective: algn"),
        ("max_steps: 2", "max_stps: 2"),
    ):
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, ["data.workers=many", "seed"])
    places = [
        problem.removeprefix(f"{path}:").partition(": ")[2] for problem in caught.value.problems
    ]
    assert [place.partition(":")[0] for place in places] == [
        "streams.image.tokenizer.pach",
        "objectives.words.fusion",
        "trainer.max_stps",
        "data.sources.rows.path",
        "data.sources.genes.files.0",
        "evaluate.pairs.objective",
        "seed",
        "data.workers",
    ]


def test_constructors_that_refuse_are_reported_together_and_what_hangs_on_them_is_not(folder):
    path = folder / "run.yaml"
    text = RIGHT.replace("patch: 4", "patch: 3").replace("heads: 2", "heads: 0")
    text = text.replace("label: label", "label: label, folds: 1")
    path.write_text(text.replace("files: [genes.fa]", "files: [genes.fa]\n      window: 0"))
    with pytest.raises(ConfigError) as caught:
        make(path)
    # The fusion, too, is wrong, but hangs on a stream that could not be built.
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "streams.image.tokenizer.size",
        "data.sources.genes.window",
        "evaluate.probe.folds",
    ]


@pytest.mark.parametrize(
    ("old", "new", "where", "text"),
    [
        ("field: sequence", "field: sequense", "streams.dna.field", "Did you mean 'sequence'?"),
        (
            "    files: [genes.fa]",
            "    files: [genes.fa]\n      fields: {dna: seqence}",
            "data.sources.genes.fields.dna",
            "no column 'seqence'. Did you mean 'sequence'?",
        ),
        (
            "    files: [genes.fa]",
            "    files: [genes.fa]\n      split: {test: 0.5, by: fil}",
            "data.sources.genes.split.by",
            "no column 'fil'. Did you mean 'file'?",
        ),
        (
            "stream: image, source: rows, label: label",
            "stream: dna, source: genes, label: nam",
            "evaluate.probe.label",
            "the source has no field 'nam'. Did you mean 'name'?",
        ),
    ],
)
def test_fields_are_checked_without_reading_where_a_source_knows_them(
    folder, old, new, where, text
):
    path = folder / "run.yaml"
    alone = RIGHT.replace(old, new)
    # A table must be read before its fields are known: rows of the config itself need not.
    rows = "{use: data.memory, rows: [{text: a, image: b, label: c}]"
    path.write_text(alone.replace("{use: data.table, path: rows.jsonl", rows))
    with pytest.raises(ConfigError) as caught:
        make(path)
    (problem,) = caught.value.problems
    assert f": {where}: " in problem and text in problem


def test_fields_of_a_table_are_checked_before_training_and_leave_nothing_behind(folder):
    from polymodal.training.train import Training

    (folder / "rows.jsonl").write_text(json.dumps({"text": "a", "image": None, "label": 1}))
    path = folder / "run.yaml"
    path.write_text(
        RIGHT.replace("label: label", "label: lable").replace("rows, label", "rows, label")
    )
    make(path)  # a plan reads no data
    with pytest.raises(ConfigError, match=r"evaluate\.probe\.label: .*Did you mean 'label'\?"):
        Training(read_config(path), folder / "out", origin=Origin(path), quiet=True)
    assert not (folder / "out").exists()


def test_a_missing_package_is_named_with_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in [name for name in sys.modules if name.startswith("polymodal_vision.timm")]:
        monkeypatch.delitem(sys.modules, name)
    path = folder / "run.yaml"
    path.write_text(
        RIGHT.replace("{use: vision.vit, size: pico}", "{use: vision.timm, model: vit}")
    )
    with pytest.raises(ConfigError, match="needs the package 'timm', which is not installed") as e:
        make(path)
    assert 'pip install "polymodal[vision]"' in str(e.value)
    assert str(e.value).startswith(f"{path}:7: streams.image.encoder.use: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("streams: {text: {reader: text.plain", ":1: not valid YAML: did not find expected"),
        ("seed: 1\nseed: 2", ":2: not valid YAML: found duplicate key seed"),
        ("data:\n\tworkers: 1", ":2: not valid YAML: .*: indent by spaces, not by tabs"),
        ("seed: &a [*a]", ":1: not valid YAML: .*recursive"),
        ("data: {sources: {a: ${oc.env:X}/b}}", ":1: .*put \\$\\{...\\} in quotes"),
        ("- streams", "must hold keys and values"),
        ("", "must hold keys and values|streams: is missing"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(tmp_path, text, reason):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_config(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("trainer.max_stps=3", "trainer.max_stps: unknown key 'max_stps'. Did you mean"),
        ("trainer.max_steps=many", "trainer.max_steps: input should be a valid integer"),
        ("trainer.max_steps", "a change to the config must be written key=value"),
        ("seed=[1", "seed: the value is not valid YAML"),
        ("objectives.pixels.ratio=wide", "objectives.pixels.ratio: must be float"),
        ("data.sources.rows.path=rowz.jsonl", "data.sources.rows.path: rowz.jsonl: no such file"),
        ("evaluate.probe.source=${nothing}", "evaluate.probe.source: the config has no 'nothing'"),
    ],
)
def test_a_change_on_the_command_line_is_blamed_there(folder, change, text):
    path = folder / "run.yaml"
    path.write_text(RIGHT)
    with pytest.raises(ConfigError) as caught:
        read_config(path, [change])
    (problem,) = caught.value.problems
    assert problem.startswith("command line: ") and text in problem


def test_a_mistake_beside_a_change_is_blamed_on_the_file(folder):
    path = folder / "run.yaml"
    path.write_text(RIGHT.replace("masking.simmim, stream: image", "masking.simmim"))
    with pytest.raises(ConfigError) as caught:
        read_config(path, ["objectives.pixels.weight=2"])
    assert caught.value.problems[0].startswith(f"{path}:16: objectives.pixels: ")


def test_plan_and_train_refuse_alike_and_speak_json(folder, monkeypatch, capsys):
    from polymodal.commands.cli import main

    (folder / "run.yaml").write_text(RIGHT.replace("patch: 4", "patch: 3"))
    found = []
    for command in ("plan", "train"):
        monkeypatch.setattr(sys, "argv", ["polymodal", command, "run.yaml", "--json"])
        with pytest.raises(SystemExit) as exit:
            main()
        printed = capsys.readouterr()
        (error,) = json.loads(printed.out)["errors"]
        assert exit.value.code == 2 and printed.err == f"error: {error}\n"
        found.append(error)
    assert found[0] == found[1] and not (folder / "runs").exists()
    assert found[0].startswith("run.yaml:6: streams.image.tokenizer.size: ")
