import pytest

from polymodal import UnreadableError
from polymodal_code.byte_pairs import CodeBytePairs
from polymodal_code.reader import CodeReader


def test_line_ends_blank_edges_and_shared_indentation_are_made_one():
    method = b"\r\n    def f(self):\r\n        return 1  \r\n\r\n"
    assert CodeReader()(method) == "def f(self):\n    return 1  "
    assert CodeReader(dedent=False)(method) == "    def f(self):\n        return 1  "


def test_code_that_is_not_utf8_is_refused_with_its_place():
    with pytest.raises(UnreadableError, match="0xe9 at position 7"):
        CodeReader()(b"x = 'caf\xe9'".replace(b"caf", b"ca"))
    assert CodeReader(encoding_errors="replace")(b"\xe9") == "\ufffd"


def test_files_are_read_by_path(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    assert CodeReader(from_file=True)(str(tmp_path / "a.py")) == "x = 1"
    with pytest.raises(UnreadableError, match="can't be read"):
        CodeReader(from_file=True)(str(tmp_path / "b.py"))


def test_tokens_keep_case_and_blanks_and_spell_indentation_in_few():
    code = "def F():\n        return  1\n\tPass"
    tokenizer = CodeBytePairs(vocabulary_size=300)
    tokenizer.fit(["    def f():\n        return 1\n        return 2\n"] * 5)
    tokens = tokenizer.encode([code, "", None, "\n\n"])
    assert tokenizer.decode(tokens) == [code, "", "", ""]
    assert tokens.layout.lengths[1:] == (0, 0, 0)
    assert tokens.layout.lengths[0] < len(code)
    assert tokenizer.reader == "code.text"


def test_a_byte_order_mark_is_no_code():
    assert CodeReader()("\ufeffx = 1") == CodeReader()("\ufeffx = 1".encode()) == "x = 1"
