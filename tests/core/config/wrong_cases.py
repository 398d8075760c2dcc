"""One right config, and every way it is made wrong: by its text, or when its parts are built."""

from typing import NamedTuple

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
