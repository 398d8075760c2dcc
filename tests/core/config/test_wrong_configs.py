"""Wrong configs, each refused before data is read, with its line and what would be right."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from polymodal.config.reading import read_config
from polymodal.ground.errors import ConfigError
from polymodal.plugins.origin import Origin

RIGHT = """\
streams:
  text:
    tokenizer: {use: text.wordpiece, vocabulary_size: 60}
    encoder: {use: text.transformer, size: pico}
  image:
    tokenizer: {use: vision.patches, size: 8, patch: 4}
    encoder: {use: vision.vit, size: pico}
  dna:
    field: sequence
    tokenizer: {use: genome.bases}
    encoder: {use: genome.transformer, size: pico}
modules:
  joint: {use: fusion.single_stream, streams: [text, image], depth: 1, heads: 2}
objectives:
  words: {use: masking.tokens, stream: text, fusion: joint, given: [image]}
  pixels: {use: masking.simmim, stream: image}
  align:
    use: contrastive.infonce
    streams: [text, image]
    dim: 16
trainer: {max_steps: 2, device: cpu}
data:
  batch_size: 8
  sources:
    rows: {use: data.table, path: rows.jsonl, split: {validation: 0.25}}
    genes:
      use: genome.fasta
      files: [genes.fa]
evaluate:
  probe: {use: evaluation.linear_probe, stream: image, source: rows, label: label}
  pairs: {use: evaluation.retrieval, streams: [image, text], source: rows, objective: align}
optimizer: {learning_rate: 1.0e-3}
"""


class Wrong(NamedTuple):
    old: str  # of the right config
    new: str
    where: str  # the path blamed
    text: str  # of the message
    at: str = ""  # where the blamed line begins; with `new` unless given


# Refused from text alone: torch is not imported.
TEXT = {
    # keys
    "section": Wrong("streams:\n", "strems:\n", "strems", "Did you mean 'streams'?"),
    "section of none": Wrong("optimizer:", "scheduler:", "scheduler", "unknown key 'scheduler'"),
    "key of a stream": Wrong(
        "    field: sequence", "    feild: sequence", "streams.dna.feild", "Did you mean 'field'?"
    ),
    "encoder's key": Wrong(
        "    encoder: {use: vision.vit", "    encodr: {use: vision.vit",
        "streams.image.encodr", "Did you mean 'encoder'?",
    ),
    "use": Wrong(
        "{use: vision.vit,", "{ues: vision.vit,", "streams.image.encoder.use", "'use' by 'ues'"
    ),
    "use left empty": Wrong(
        "{use: vision.vit,", "{use: ,", "streams.image.encoder.use", "valid string, got None"
    ),
    "trainer's key": Wrong(
        "max_steps: 2", "max_stps: 2", "trainer.max_stps", "Did you mean 'max_steps'?"
    ),
    "key of a split": Wrong(
        "{validation: 0.25}", "{valid: 0.25}", "data.sources.rows.split.valid",
        "Did you mean 'validation'?",
    ),
    "option": Wrong(
        "patch: 4", "pach: 4", "streams.image.tokenizer.pach", "Did you mean 'patch'?"
    ),
    "option that must be given": Wrong(
        "simmim, stream: image", "simmim, strem: image", "objectives.pixels.strem",
        "Did you mean 'stream'?",
    ),
    "option left out": Wrong(
        "masking.simmim, stream: image", "masking.simmim", "objectives.pixels",
        "needs the option 'stream'",
    ),
    # names of components
    "plugin": Wrong(
        "vision.vit", "vison.vit", "streams.image.encoder.use", "Did you mean 'vision'?"
    ),
    "component": Wrong(
        "masking.simmim", "masking.simim", "objectives.pixels.use", "Did you mean 'masking.simmim'"
    ),
    "kind": Wrong(
        "{use: vision.vit,", "{use: vision.patches,", "streams.image.encoder.use",
        "is a tokenizer, but encoder is wanted here. Known encoders: vision.open_clip",
        "    encoder: {use: vision.patches",
    ),
    "component without its plugin": Wrong(
        "use: masking.simmim", "use: simmim", "objectives.pixels.use",
        "Did you mean 'masking.simmim'?",
    ),
    "bare encoder": Wrong(
        "{use: vision.vit, size: pico}", "vit", "streams.image.encoder", "or 'vision.vit'?"
    ),
    "blocked plugin": Wrong(
        "trainer:", "plugins: {block: [masking]}\ntrainer:", "objectives.pixels.use",
        "named in plugins.block", "  pixels:",
    ),
    "block": Wrong(
        "trainer:", "plugins: {block: [masing]}\ntrainer:", "plugins.block",
        "Did you mean 'masking'?",
    ),
    # names of the config's own parts
    "stream": Wrong(
        "simmim, stream: image", "simmim, stream: imag", "objectives.pixels.stream",
        "Did you mean 'image'?",
    ),
    "stream in a list": Wrong(
        "    streams: [text, image]", "    streams: [text,\n      imagee]",
        "objectives.align.streams.1", "Did you mean 'image'?", "      imagee",
    ),
    "anchor": Wrong(
        "    dim: 16", "    anchor: txt", "objectives.align.anchor", "Did you mean 'text'?"
    ),
    "pair": Wrong(
        "    dim: 16", "    pairs: [[text, imag]]", "objectives.align.pairs.0.1",
        "no stream is called 'imag'. Did you mean 'image'?",
    ),
    "stream of a fusion": Wrong(
        "streams: [text, image], depth", "streams: [txt, image], depth", "modules.joint.streams.0",
        "Did you mean 'text'?",
    ),
    "module": Wrong(
        "fusion: joint", "fusion: jiont", "objectives.words.fusion", "Did you mean 'joint'?"
    ),
    "module that nothing uses": Wrong(
        "stream: text, fusion: joint, given: [image]", "stream: text", "modules.joint",
        "nothing uses it", "  joint:",
    ),
    "stream of an evaluation": Wrong(
        "stream: image, source", "stream: imge, source", "evaluate.probe.stream",
        "Did you mean 'image'?",
    ),
    "source": Wrong(
        "image, source: rows", "image, source: row", "evaluate.probe.source", "Did you mean 'rows'"
    ),
    "objective": Wrong(
        "objective: align", "objective: aling", "evaluate.pairs.objective", "Did you mean 'align'?"
    ),
    "shared encoder": Wrong(
        "{use: vision.vit, size: pico}", "vsion", "streams.image.encoder",
        "no encoder is called 'vsion' under 'encoders'",
    ),
    "encoder of another stream": Wrong(
        "{use: genome.transformer, size: pico}", "text", "streams.dna.encoder",
        "To share that of the stream 'text', move it there", "    encoder: text",
    ),
    "encoder that no stream uses": Wrong(
        "modules:", "encoders:\n  spare: {use: text.transformer, size: pico}\nmodules:",
        "encoders.spare", "no stream has 'encoder: spare'", "  spare:",
    ),
    "encoder that names itself": Wrong(
        "modules:", "encoders:\n  tower: tower\nmodules:", "encoders.tower.use",
        "'tower' is no component name", "  tower:",
    ),
    "name with a dash": Wrong("  pixels:", "  pix-els:", "objectives.pix-els", "is no name"),
    "name that torch has": Wrong("  pixels:", "  forward:", "objectives.forward", "is taken"),
    # types and ranges
    "word for a number": Wrong(
        "patch: 4", "patch: four", "streams.image.tokenizer.patch", "must be int, got 'four'"
    ),
    "number as text": Wrong("batch_size: 8", "batch_size: '8'", "data.batch_size", "got '8'"),
    "list for a section": Wrong(
        "trainer: {max_steps: 2, device: cpu}", "trainer: [1]", "trainer",
        "must hold keys and values, got [1]",
    ),
    "empty section": Wrong(
        "optimizer: {learning_rate: 1.0e-3}", "optimizer:", "optimizer", "is empty"
    ),
    "list for an encoder": Wrong(
        "{use: vision.vit, size: pico}", "[vision.vit]", "streams.image.encoder",
        "must be a component ({use: ...}) or the name of one under 'encoders'",
    ),
    "choice": Wrong(
        "vision.vit, size: pico", "vision.vit, size: picoo", "streams.image.encoder.size",
        "did you mean 'pico'?",
    ),
    "schedule": Wrong(
        "1.0e-3}", "1.0e-3, schedule: cosin}", "optimizer.schedule", "did you mean 'cosine'?"
    ),
    "negative weight": Wrong(
        "rows.jsonl,", "rows.jsonl, weight: -1,", "data.sources.rows.weight",
        "greater than or equal to 0, got -1",
    ),
    "betas": Wrong("1.0e-3}", "1.0e-3, betas: [0.9, 1.5]}", "optimizer.betas.1", "less than 1"),
    "device": Wrong("device: cpu", "device: cud", "trainer.device", "Known: auto, cpu, cuda,"),
    "splits that leave nothing": Wrong(
        "{validation: 0.25}", "{validation: 0.6, test: 0.4}", "data.sources.rows.split",
        "none is left",
    ),
    "split in two ways": Wrong(
        "{validation: 0.25}", "{validation: 0.25, column: fold}", "data.sources.rows.split",
        "not both",
    ),
    "no end": Wrong("max_steps: 2, ", "", "trainer", "needs max_steps or epochs", "trainer:"),
    "parts of a batch": Wrong(
        "max_steps: 2", "max_steps: 2, accumulate: 3", "trainer.accumulate",
        "3 does not divide data.batch_size 8",
    ),
    "nothing to train on": Wrong(
        "split: {validation: 0.25}}\n    genes:\n      use: genome.fasta\n      files: [genes.fa]",
        "weight: 0}", "data.sources.rows.weight", "every source has weight 0",
    ),
    # files and interpolations
    "file": Wrong(
        "rows.jsonl", "row.jsonl", "data.sources.rows.path",
        "row.jsonl: no such file. Did you mean 'rows.jsonl'?",
    ),
    "file in a list": Wrong(
        "files: [genes.fa]", "files: [genes.fa, gene.fa]", "data.sources.genes.files.1",
        "Did you mean 'genes.fa'?",
    ),
    "glob": Wrong("rows.jsonl", "'*.csv'", "data.sources.rows.path", "no file matches *.csv"),
    "vocabulary": Wrong(
        "vocabulary_size: 60", "file: vocab.txt", "streams.text.tokenizer.file", "no such file"
    ),
    "folder": Wrong(
        "{use: data.table, path: rows.jsonl,", "{use: data.folder, folder: pictures,",
        "data.sources.rows.folder", "pictures: no such folder",
    ),
    "variable": Wrong(
        "rows.jsonl", "'${oc.env:NO_SUCH_FOLDER}/rows.jsonl'", "data.sources.rows.path",
        "the environment variable NO_SUCH_FOLDER is not set",
    ),
    "interpolation": Wrong(
        "batch_size: 8", "batch_size: ${trainer.max_step}", "data.batch_size",
        "Did you mean 'trainer.max_steps'?",
    ),
    "interpolation of itself": Wrong(
        "batch_size: 8", "batch_size: ${data.batch_size}", "data.batch_size", "refers to itself"
    ),
    "resolver": Wrong("batch_size: 8", "batch_size: ${env:X}", "data.batch_size", "type env"),
    "unclosed interpolation": Wrong(
        "batch_size: 8", "batch_size: ${data", "data.batch_size", "can't be interpolated"
    ),
    "value to be given": Wrong(
        "batch_size: 8", "batch_size: ???", "data.batch_size", "must be set"
    ),
    # YAML
    "yes for a name": Wrong(
        "label: label", "label: no", "evaluate.probe.label", "put the word in quotes"
    ),
    "on for a key": Wrong("  pixels:", "  on:", "objectives.true", "YAML takes this key for true"),
}  # fmt: skip

# Refused when the parts are built: reasons that only their constructors know.
BUILD = {
    "masked tokens without ids": Wrong(
        "masking.simmim", "masking.detection", "objectives.pixels.stream",
        "needs tokens with ids, but its tokens are values. Streams that would do: text, dna.",
        "  pixels:",
    ),
    "hidden values of ids": Wrong(
        "simmim, stream: image", "simmim, stream: text", "objectives.pixels.stream",
        "Streams that would do: image.",
    ),
    "causal objective": Wrong(
        "masking.simmim, stream: image", "generation.next_token, stream: text",
        "objectives.pixels.stream", "needs a causal encoder",
    ),
    "edges": Wrong(
        "masking.simmim", "masking.edges", "objectives.pixels.stream", "No stream of this"
    ),
    "encoder of ids": Wrong(
        "{use: vision.vit, size: pico}", "{use: text.open_clip, model: ViT-B-32}",
        "streams.image.encoder", "Use the tokenizer text.open_clip",
    ),
    "another vocabulary": Wrong(
        "{use: text.transformer, size: pico}", "{use: text.open_clip, model: ViT-B-32}",
        "streams.text.encoder", "the tokenizer gives up to 512. Set its max_tokens",
    ),
    "encoder of images": Wrong(
        "{use: text.transformer, size: pico}", "{use: vision.timm, model: resnet10t}",
        "streams.text.encoder", "tokenize by vision.patches",
    ),
    "encoder of one size": Wrong(
        "size: 8, patch: 4}\n    encoder: {use: vision.vit, size: pico}",
        "max_tokens: 4, patch: 4}\n    encoder: {use: vision.timm, model: resnet10t}",
        "streams.image.encoder", "give vision.patches `size`", "    encoder: {use: vision.timm",
    ),
    "model": Wrong(
        "{use: vision.vit, size: pico}", "{use: vision.timm, model: resnet10}",
        "streams.image.encoder.model", "Did you mean 'resnet10t",
    ),
    "encoder of clips": Wrong(
        "{use: vision.vit, size: pico}", "{use: video.vit, size: pico, attention: divided}",
        "streams.image.encoder", "tokenize by video.tubelets",
    ),
    "encoder of graphs": Wrong(
        "{use: vision.vit, size: pico}", "{use: graph.gnn, width: 8, depth: 1}",
        "streams.image.encoder", "tokenize by graph.nodes",
    ),
    "patches": Wrong(
        "size: 8, patch: 4", "size: 8, patch: 3", "streams.image.tokenizer.size",
        "size must be a multiple of patch 3, got 8: try 9",
    ),
    "small vocabulary": Wrong(
        "vocabulary_size: 60", "vocabulary_size: 1", "streams.text.tokenizer.vocabulary_size",
        "must be at least",
    ),
    "heads": Wrong("heads: 2", "heads: 3", "modules.joint.heads", "heads must divide the width"),
    "ratio": Wrong(
        "stream: image}", "stream: image,\n    ratio: 1.5}", "objectives.pixels.ratio",
        "ratio must lie between 0 and 1, got 1.5", "    ratio:",
    ),
    "one stream": Wrong(
        "    streams: [text, image]", "    streams: [text]", "objectives.align.streams",
        "2 or more different ones",
    ),
    "unlike tokenizers": Wrong(
        "modules:", "encoders:\n  both: {use: vision.vit, size: pico}\nmodules:", "encoders.both",
        "streams 'text' and 'image' share it, but their tokenizers differ", "  both:",
    ),
    "fusion of other streams": Wrong(
        "streams: [text, image], depth", "streams: [text, dna], depth", "objectives.words",
        "the fusion reads the streams ['dna', 'text']", "  words:",
    ),
    "fusion of another width": Wrong(
        "heads: 2}", "heads: 2, width: 32}", "objectives.words", "set fusion_width: 32", "  words:"
    ),
    "batch that can't be cut": Wrong(
        "trainer: {max_steps: 2,",
        "  pair: {use: contrastive.matching, streams: [text, image], fusion: joint}\n"
        "trainer: {max_steps: 2, accumulate: 2,",
        "trainer.accumulate", "contrastive.matching compares the samples of a batch", "trainer:",
    ),
    "pattern to freeze": Wrong(
        "vision.vit, size: pico", "vision.vit, size: pico, freeze: [stem.tokns.weight]",
        "streams.image.encoder.freeze", "Did you mean 'stem.tokens.weight'?",
    ),
    "layers to freeze": Wrong(
        "vision.vit, size: pico", "vision.vit, size: pico, freeze_layers: 30",
        "streams.image.encoder.freeze_layers", "it has 3 layers",
    ),
    "run to start from": Wrong(
        "vision.vit, size: pico", "vision.vit, size: pico, initialize: nowhere",
        "streams.image.encoder.initialize", "'nowhere' is no run",
    ),
}  # fmt: skip


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
