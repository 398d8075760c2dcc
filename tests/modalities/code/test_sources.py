import ast
import pickle
import sys

import pytest

from polymodal import DataError, UnreadableError
from polymodal_code.files import CodeFiles
from polymodal_code.functions import decode_source, functions_of
from polymodal_code.package import PackageFunctions

SOURCE = '''
def plain(x):
    return x


class Shape:
    @property
    def area(self):
        """Return the area of the shape, é.

        Never negative.
        """
        # in square metres
        text = """
not indented
"""
        return self.side**2

    async def wait(self): "Wait for nothing at all."; return 1

    def bare(self):
        """Say what, do nothing."""

    class Inner:
        def deep(self, b="""x"""):
            "Go deep, deeper still."; y = 1
            def inside():
                """Not a row of its own."""
            return y


if True:
    def conditional():
        r\'\'\'A raw one.\'\'\'  # noqa
        return 2
'''


def test_functions_come_without_docstring_and_still_parse():
    found = {function.name: function for function in functions_of(SOURCE)}
    assert list(found) == [
        "plain", "Shape.area", "Shape.wait", "Shape.bare", "Shape.Inner.deep", "conditional",
    ]  # fmt: skip
    assert found["plain"].docstring == ""
    assert found["Shape.area"].docstring == "Return the area of the shape, é.\n\nNever negative."
    assert found["Shape.area"].code == (
        'def area(self):\n    # in square metres\n    text = """\nnot indented\n"""\n'
        "    return self.side**2"
    )
    assert found["Shape.wait"].code == "async def wait(self): return 1"
    assert found["Shape.bare"].code == "def bare(self):\n    pass"
    assert found["Shape.Inner.deep"].code.startswith('def deep(self, b="""x"""):\n    y = 1\n')
    assert '"""Not a row' in found["Shape.Inner.deep"].code
    assert found["conditional"].code == "def conditional():\n    return 2"
    for function in found.values():
        assert ast.get_docstring(ast.parse(function.code).body[0]) is None


def test_every_function_of_some_standard_modules_parses_without_its_docstring():
    source = PackageFunctions(
        modules=["argparse", "json", "email"], documented=False, private=True,
        min_code=1, max_code=10**6, min_docstring=0, max_docstring=10**6, docstring="whole",
    )  # fmt: skip
    rows = source.rows(range(len(source)))
    assert len(rows) > 500
    for row in rows:
        function = ast.parse(row["code"]).body[0]
        if row["docstring"] is not None:
            assert ast.get_docstring(function) != row["docstring"]


def test_source_is_decoded_by_its_own_coding_line():
    assert decode_source("# coding: latin-1\nx = 'é'\r\n".encode("latin-1")).endswith("'é'\n")
    with pytest.raises(SyntaxError):
        decode_source(b"x = '\xe9'")


@pytest.fixture
def package(tmp_path, monkeypatch):
    top = tmp_path / "toy_package"
    (top / "inner").mkdir(parents=True)
    (top / "__init__.py").write_text("raise RuntimeError('imported!')\n")
    (top / "b.py").write_text('def twice(x):\n    """Return x twice over."""\n    return x + x\n')
    (top / "broken.py").write_text("def f(:\n")
    (top / "nul.py").write_bytes(b"x = '\0'\n")
    (top / "inner" / "a.py").write_text(
        'def _hidden(x):\n    """Return x itself, privately."""\n    return x\n\n'
        'def half(x):\n    """Return half.\n\n    Or so.\n    """\n    return x / 2\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return top


def test_a_package_is_read_in_order_and_never_imported(package):
    source = PackageFunctions(modules=["toy_package"], min_code=1)
    rows = source.rows(range(len(source)))
    good = [row for row in rows if not isinstance(row, UnreadableError)]
    assert [(row["module"], row["name"]) for row in good] == [
        ("toy_package.b", "twice"),
        ("toy_package.inner.a", "half"),
    ]
    assert good[0]["docstring"] == "Return x twice over."
    assert good[1]["docstring"] == "Return half."
    assert set(good[0]) == set(source.columns())
    assert "toy_package" not in sys.modules
    assert pickle.loads(pickle.dumps(source)).row(0) == source.row(0)


def test_a_file_that_does_not_parse_is_one_unreadable_row(package):
    rows = PackageFunctions(modules=["toy_package"], min_code=1).rows(range(4))
    reasons = [str(row) for row in rows if isinstance(row, UnreadableError)]
    assert len(reasons) == 2
    assert "broken.py does not parse" in reasons[0]
    assert "line 1" in reasons[0]
    assert "nul.py does not parse" in reasons[1]


def test_parts_of_packages_and_bounds_narrow_the_choice(package):
    source = PackageFunctions(modules=["toy_package.inner.a"], min_code=1, private=True)
    assert [source.row(i)["name"] for i in range(len(source))] == ["_hidden", "half"]
    assert len(PackageFunctions(modules=["toy_package.inner"], min_code=1)) == 1
    with pytest.raises(DataError, match="no function is left"):
        len(PackageFunctions(modules=["toy_package.b"], min_code=1000))


def test_modules_that_are_not_there_are_named():
    with pytest.raises(DataError, match="Did you mean 'json'"):
        len(PackageFunctions(modules=["jsn"]))
    with pytest.raises(DataError, match="'json' has no 'gone'"):
        len(PackageFunctions(modules=["json.gone"]))
    with pytest.raises(DataError, match="no Python source"):
        len(PackageFunctions(modules=["sys"]))
    with pytest.raises(ValueError, match="at least one module"):
        PackageFunctions(modules=[])


def test_files_come_by_path_with_their_language(tmp_path):
    for name in ("b.py", "a.JS", "sub/c.py", "sub/tests/d.py", ".hidden/e.py", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"x\xe9")
    source = CodeFiles(folder=str(tmp_path), extensions=["py", ".js"], exclude=["*/tests/*"])
    assert [source.row(i)["path"] for i in range(len(source))] == ["a.JS", "b.py", "sub/c.py"]
    assert source.row(0) == {"code": b"x\xe9", "path": "a.JS", "language": "javascript"}
    assert len(pickle.loads(pickle.dumps(source))) == 3


def test_files_too_large_or_gone_are_unreadable_and_folders_must_hold_some(tmp_path):
    (tmp_path / "a.py").write_text("x" * 100)
    (tmp_path / "b.py").write_text("x")
    source = CodeFiles(folder=str(tmp_path), max_bytes=50)
    assert len(source) == 2
    (tmp_path / "b.py").unlink()
    large, gone = source.rows([0, 1])
    assert "100 bytes" in str(large)
    assert "can't be read" in str(gone)
    with pytest.raises(DataError, match=r"no file ending in \.go"):
        len(CodeFiles(folder=str(tmp_path), extensions=["go"]))
    with pytest.raises(DataError, match="no folder"):
        len(CodeFiles(folder=str(tmp_path / "gone")))
