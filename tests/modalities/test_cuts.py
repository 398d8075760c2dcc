"""Which segments a limit has cut: those that have more tokens, or others, without the limit."""

from importlib import import_module

import numpy as np
import pytest

TEXTS = ["one two", "one two three four five six seven", None, "", "one two three"]
SEQUENCES = ["ACGTAC", "ACGTACGTACGTAAA", None, "ACGTACGT", "ACGTACGTAC"]
CODE = [
    {"language": "python", "code": "x = 1"},
    {"language": "python", "code": "a = b\nc = a + b\nd = c + a\ne = d + c"},
    None,
    {"language": "python", "text": "one two three four five six seven"},
    {"language": "python", "code": "x = 1", "text": "one two three"},
]


def waveforms():
    from polymodal_audio.sound import Waveform

    sizes = (6, 40, 20, 21)
    return [None, *(Waveform(np.linspace(-1, 1, n, dtype=np.float32), 100) for n in sizes)]


def hunks():
    from polymodal_code.hunks import Hunk

    many = Hunk(("a = 1", "b = 2", "c = 3"), ("keep", "delete", "add"))
    return [Hunk(("a",), ("add",)), many, None, "a comment of a good many words", "a"]


def regions():
    from polymodal_vision.regions import RegionSet

    def of(count, sure=None):
        confidence = None if sure is None else np.linspace(1, 0, count, dtype=np.float32)
        boxes, features = np.zeros((count, 7), np.float32), np.zeros((count, 4), np.float32)
        return RegionSet(boxes=boxes, features=features, confidence=confidence)

    return [of(2), of(5), None, of(3), of(9, sure=True)]


CASES = {
    "text.wordpiece": ("polymodal_text.wordpiece:WordPiece", {"max_tokens": 5}, {}, TEXTS),
    "text.bpe": ("polymodal_text.byte_pairs:BytePairs", {"max_tokens": 6}, {}, TEXTS),
    "text.open_clip": (
        "polymodal_text.clip_tokenizer:ClipTokenizer", {"max_tokens": 5}, {}, TEXTS
    ),
    "genome.bases": (
        "polymodal_genome.bases:Bases", {"max_tokens": 10, "mark_ends": True},
        {"mark_ends": True}, SEQUENCES,
    ),
    "genome.kmers": (
        "polymodal_genome.kmers:Kmers", {"max_tokens": 2, "k": 3, "stride": 3},
        {"k": 3, "stride": 3}, SEQUENCES,
    ),
    "genome.bpe": (
        "polymodal_genome.byte_pairs:BaseBytePairs", {"max_bases": 8, "vocabulary_size": 9},
        {"vocabulary_size": 9}, SEQUENCES,
    ),
    "genome.bpe by tokens": (
        "polymodal_genome.byte_pairs:BaseBytePairs", {"max_tokens": 3, "vocabulary_size": 10},
        {"vocabulary_size": 10}, SEQUENCES,
    ),
    "code.diff": ("polymodal_code.diff_tokens:DiffTokenizer", {"max_tokens": 12}, {}, hunks),
    "code.data_flow by tokens": (
        "polymodal_code.flow_tokens:DataFlowTokens",
        {"max_tokens": 24, "max_nodes": 12, "max_text": 8}, {"max_nodes": 12}, CODE,
    ),
    "code.data_flow by nodes": (
        "polymodal_code.flow_tokens:DataFlowTokens", {"max_nodes": 3}, {}, CODE
    ),
    "audio.frames": (
        "polymodal_audio.frames:WaveformFrames", {"rate": 100, "frame": 1, "seconds": 0.2},
        {"rate": 100, "frame": 1, "seconds": None}, waveforms,
    ),
    "vision.regions": (
        "polymodal_vision.regions:Regions", {"features": 4, "max_regions": 3, "min_regions": 0},
        {"features": 4, "min_regions": 0}, regions,
    ),
}  # fmt: skip
NEEDS = {"polymodal_code": "tree_sitter", "text.open_clip": "open_clip", "audio": "soundfile"}


@pytest.mark.parametrize("name", CASES)
def test_a_segment_is_cut_if_the_limit_leaves_something_out(name):
    place, limited, free, raws = CASES[name]
    for part, package in NEEDS.items():
        if part in f"{name} {place}":
            pytest.importorskip(package)
    module, kind = place.split(":")
    make = getattr(import_module(module), kind)
    raws = raws() if callable(raws) else raws
    short, long = make(**limited), make(**free)
    if not short.fitted:
        long.fit(raws * 3)
        short.load_state(long.state())
    lengths = long.encode(raws).layout.lengths
    tokens = short.encode(raws)
    assert tokens.cut == tuple(a > b for a, b in zip(lengths, tokens.layout.lengths, strict=True))
    assert any(tokens.cut)
    assert not all(tokens.cut)
    assert not any(long.encode(raws).cut)
    generators = [np.random.default_rng(n) for n in range(len(raws))]
    assert short.encode(raws, generators=generators).cut == tokens.cut
