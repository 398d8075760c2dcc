import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal import DataError, UnreadableError
from polymodal_genome import reverse_complement
from polymodal_genome.fasta import Fasta
from polymodal_genome.letters import LETTERS, check_letters, unknown_share
from polymodal_genome.sequence import SequenceReader


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        content = content.encode() if isinstance(content, str) else content
        if name.endswith(".gz"):
            content = gzip.compress(content)
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


def test_the_other_strand_is_read_backwards():
    assert reverse_complement("AACGTTN") == "NAACGTT"
    assert reverse_complement("acgU") == "Acgt"
    codes = {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
             "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"}  # fmt: skip
    for code, bases in codes.items():
        other = "".join(sorted(reverse_complement(bases)))
        assert codes[reverse_complement(code)] == other
    for letter in LETTERS.replace("U", ""):
        assert reverse_complement(reverse_complement(letter)) == letter


def test_illegal_letters_are_named_with_their_place():
    check_letters("ACGTUNacgtryswkmbdhv")
    with pytest.raises(UnreadableError, match=r"'X' at position 2 \(from 0\)"):
        check_letters("ACXT")
    with pytest.raises(UnreadableError, match="chr1 has '-' at position 101"):
        check_letters(b"A-", where="chr1", start=100)
    with pytest.raises(UnreadableError, match="'é' at position 1"):
        check_letters("Aé")


def test_the_reader_takes_strings_bytes_arrays_and_seq_objects():
    class Seq:
        def __str__(self):
            return "acgt"

    class SeqRecord:
        seq = Seq()

    read = SequenceReader()
    for value in ("ac\ngt ", b"ACGT", np.array(list("ACGT")), Seq(), SeqRecord()):
        assert read(value) == "ACGT"
    assert read(np.frombuffer(b"ACGT", np.uint8)) == "ACGT"
    assert SequenceReader(keep_case=True)("acGT") == "acGT"


@pytest.mark.parametrize("value", ["", " \n", "ACJ", b"A\xff", 3, ["A", "C"]])
def test_the_reader_refuses_what_is_no_sequence(value):
    with pytest.raises(UnreadableError):
        SequenceReader()(value)


def test_the_reader_takes_a_file_of_one_record_and_refuses_others(tmp_path):
    path = tmp_path / "one.fa.gz"
    path.write_bytes(gzip.compress(b">chr1 a plasmid\nACGT\nnnac\n"))
    assert SequenceReader()(path) == "ACGTNNAC"
    contents = {
        "two.fa": (">a\nAC\n>b\nGT\n", "holds 2 records"),
        "none.fa": (">a\n", "record 'a' has no sequence"),
        "empty.fa": ("", "is empty"),
        "text.fa": ("no letters", "neither FASTA nor FASTQ"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UnreadableError, match=reason):
            SequenceReader()(tmp_path / name)
    with pytest.raises(UnreadableError, match="gone.fa can't be read"):
        SequenceReader()(tmp_path / "gone.fa")


def test_the_share_of_ambiguous_letters_counts_both_cases():
    assert unknown_share("ACNnRu") == 0.5
    assert unknown_share("") == 0


FASTA = ">one first of all\nACGT\nacg\n>two\n\n>one\r\nAANN\r\n"


@pytest.mark.parametrize("name", ["a.fasta", "a.fa.gz", "wrong.txt"])
def test_records_are_rows_whatever_the_file_is_called(write, name):
    source = Fasta(files=[write(name, FASTA)])
    assert len(source) == 3
    assert source.row(0) == {
        "sequence": "ACGTacg", "name": "one", "description": "first of all", "start": 0,
        "file": name,
    }  # fmt: skip
    assert source.row(2)["sequence"] == "AANN"


def test_empty_records_and_duplicate_names_are_reported(write):
    path = write("a.fa", FASTA)
    source = Fasta(files=[path])
    _, empty, again = source.rows([0, 1, 2])
    assert isinstance(empty, UnreadableError)
    assert "record 'two' has no sequence" in str(empty)
    assert again["name"] == "one#2"
    with pytest.raises(DataError, match="two records are called 'one'"):
        len(Fasta(files=[path], duplicates="refuse"))


def test_a_record_with_an_illegal_letter_is_one_unreadable_row(write):
    path = write("a.fa", ">a\nACGT\n>b\nAC\nEGT\n>c é\nAé\n>d\nGG\n")
    good, bad, foreign, last = Fasta(files=[path]).rows(range(4))
    assert good["sequence"] == "ACGT"
    assert "a.fa: record 'b' has 'E' at position 2" in str(bad)
    assert isinstance(foreign, UnreadableError)
    assert last["sequence"] == "GG"
    windows = Fasta(files=[path], window=2, stride=2).rows(range(4))
    assert "position 2" in str(windows[3])


def test_windows_side_by_side_cover_every_base(write):
    path = write("a.fa", ">a\nAACCGGT\n>b\nAC\n>c\n\n>d\nTTTT\n")
    rows = Fasta(files=[path], window=4, stride=2).rows(range(6))
    found = [(r["name"], r["start"], r["sequence"]) for r in rows if isinstance(r, dict)]
    assert found == [
        ("a", 0, "AACC"), ("a", 2, "CCGG"), ("a", 3, "CGGT"), ("b", 0, "AC"), ("d", 0, "TTTT"),
    ]  # fmt: skip
    assert len(Fasta(files=[path], window=4, stride=2)) == 6


def test_drawn_windows_are_the_same_each_time_and_from_every_place(write):
    path = write("a.fa", ">a\nACGTA\n>b\nAC\n>e\n\n>c\nCCCC\n")
    source = Fasta(files=[path], window=4, windows=60, seed=3)
    assert len(source) == 61  # and one for the broken record
    rows = source.rows(range(61))
    assert isinstance(rows[60], UnreadableError)
    places = {(row["name"], row["start"]) for row in rows[:60]}
    assert places == {("a", 0), ("a", 1), ("c", 0)}
    assert all(len(row["sequence"]) == 4 for row in rows[:60])
    again = pickle.loads(pickle.dumps(source))
    assert again.rows(range(60)) == rows[:60]
    other = Fasta(files=[path], window=4, windows=60, seed=4)
    assert other.rows(range(60)) != rows[:60]
    with pytest.raises(DataError, match="no record has the 9 bases"):
        len(Fasta(files=[path], window=9, windows=2))


def test_reads_have_their_quality_and_a_broken_tail_is_one_row(write):
    path = write("a.fastq.gz", "@r1 x\nACGT\n+\nII!I\n@r2\nAC\n+\nI")
    first, broken = Fasta(files=[path]).rows([0, 1])
    assert first["quality"].tolist() == [40, 40, 0, 40]
    assert first["description"] == "x"
    assert "read 2" in str(broken)
    window = Fasta(files=[path], window=2).row(1)
    assert window["quality"].tolist() == [0, 40]


def test_a_gzip_file_cut_short_keeps_what_came_before(write, tmp_path):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 50_000))
    whole = gzip.compress(f">a\nACGT\n>b\n{letters}\n".encode())
    (tmp_path / "cut.fa.gz").write_bytes(whole[: len(whole) // 2])
    first, cut = Fasta(files=[str(tmp_path / "cut.fa.gz")]).rows([0, 1])
    assert first["sequence"] == "ACGT"
    assert "record 'b' is cut off" in str(cut)


def test_files_that_are_no_sequences_are_refused(write, tmp_path):
    for content, reason in (("", "is empty"), ("ACGT\n", "neither FASTA nor FASTQ")):
        with pytest.raises(DataError, match=reason):
            len(Fasta(files=[write("a.fa", content)]))
    with pytest.raises(DataError, match=r"gone.fa: no such file"):
        len(Fasta(files=[str(tmp_path / "gone.fa")]))


def test_several_files_by_pattern_keep_their_names(write, tmp_path):
    write("b.fa", ">x\nGG\n")
    write("a.fa", ">x\nAA\n")
    source = Fasta(files=[str(tmp_path / "*.fa")])
    rows = [(row["file"], row["name"], row["sequence"]) for row in source.rows([0, 1])]
    assert rows == [("a.fa", "x", "AA"), ("b.fa", "x#2", "GG")]


@pytest.mark.parametrize("name", ["a.fa", "a.fa.gz"])
def test_files_too_large_for_memory_are_read_through_an_index(write, tmp_path, name):
    path = write(name, ">a b\nACGTA\nCG\n>e\n>a\nttN\n")
    kept = Fasta(files=[path], window=4, stride=3)
    indexed = Fasta(
        files=[path], window=4, stride=3, in_memory=1, index_folder=str(tmp_path / "index")
    )
    indexed = pickle.loads(pickle.dumps(indexed))
    assert [str(row) for row in indexed.rows(range(4))] == [str(r) for r in kept.rows(range(4))]
    assert {file.name for file in tmp_path.iterdir()} == {name, "index"}
    reads = write("a.fq", "@r\nA\n+\nI\n")
    with pytest.raises(DataError, match="raise in_memory"):
        len(Fasta(files=[reads], in_memory=1))


def test_options_that_contradict_each_other_are_refused():
    for options in ({"stride": 2}, {"windows": 2}, {"window": 0}, {"files": []},
                    {"window": 4, "windows": 2, "stride": 2}):  # fmt: skip
        with pytest.raises(ValueError, match=r"stride|windows|window|files"):
            Fasta(**{"files": ["a.fa"], **options})


lines = st.lists(
    st.sampled_from(["ACGTAC", "gtac", "ACGTACGTA", "", "NN", "AC GT", "\tAC", ";ACG", "ACGTA "]),
    max_size=7,
)
records_of_any_form = st.lists(
    st.tuples(st.sampled_from(["a", "a b", "", "c\td > e", "é"]), lines), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=60)
@given(
    records=records_of_any_form,
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    before=st.sampled_from(["", "\ufeff", "\n\n", ";x\n"]),
    encoding=st.sampled_from(["utf-8", "latin-1"]),
)
def test_rows_by_index_are_those_in_memory(records, end, last, before, encoding, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fasta")
    text = end.join(row for name, rows in records for row in (f">{name}", *rows))
    content = before.encode() + (text + end * last).encode(encoding)
    for path, whole in ((folder / "a.fa", content), (folder / "b.fa.gz", gzip.compress(content))):
        path.write_bytes(whole)
        held = Fasta(files=[str(path)], window=5, stride=2)
        indexed = Fasta(
            files=[str(path)], window=5, stride=2, in_memory=1, index_folder=str(folder)
        )
        assert len(held) == len(indexed)
        for one, other in zip(held.rows(range(len(held))), indexed.rows(range(len(held)))):
            assert isinstance(one, UnreadableError) == isinstance(other, UnreadableError)
            assert str(one) == str(other)


def test_names_that_are_not_utf_8_stay_apart(tmp_path):
    path = tmp_path / "latin.fa"
    path.write_bytes(">é1 déjà\nAC\n>è1\nGT\n".encode("latin-1"))
    for most in (10**6, 1):
        source = Fasta(files=[str(path)], in_memory=most, index_folder=str(tmp_path))
        assert [row["name"] for row in source.rows(range(2))] == ["é1", "è1"]
        assert source.row(0)["description"] == "déjà"


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "grows.fa.gz"
    path.write_bytes(gzip.compress(b">a\n" + b"A" * 20_000))
    monkeypatch.setattr("polymodal.ground.unpacking.FREE", 20_002)
    for most in (10**6, 100):
        with pytest.raises(DataError, match="unpacks to more than 100 times its"):
            len(Fasta(files=[str(path)], in_memory=most, index_folder=str(tmp_path)))
    with pytest.raises(UnreadableError, match="unpacks to more"):
        SequenceReader()(path)
    monkeypatch.setattr("polymodal.ground.unpacking.FREE", 20_003)
    assert len(SequenceReader()(path)) == 20_000


def test_a_packed_file_that_grows_past_memory_is_read_from_disk(tmp_path):
    path = tmp_path / "grows.fa.gz"
    path.write_bytes(gzip.compress(b">a\n" + b"ACGT" * 50))
    source = Fasta(files=[str(path)], in_memory=200, index_folder=str(tmp_path / "index"))
    assert source.row(0)["sequence"] == "ACGT" * 50
    assert len(list((tmp_path / "index").iterdir())) == 2  # it was unpacked there, with an index


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b">a\nAC\rGT\n", "carriage return alone"),
        (b"ACGT\n", "no FASTA file"),
        (gzip.compress(b">a\nACGT\n" * 99)[:-9], "Compressed file ended"),
    ],
)
def test_files_that_no_index_fits_are_refused(tmp_path, content, reason):
    path = tmp_path / "bad.fa"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        len(Fasta(files=[str(path)], in_memory=1, index_folder=str(tmp_path / "index")))
    assert not list((tmp_path / "index").iterdir())  # nothing half written is left


@pytest.mark.parametrize(
    "value", [Path("a\0b.fa"), Path("a" * 5000), np.array([b"\xe9"]), "AC\ud800"]
)
def test_a_sequence_that_is_none_is_unreadable(value):
    with pytest.raises(UnreadableError):
        SequenceReader()(value)
