"""Functions of Python source and their docstrings, by the syntax tree alone."""

import ast
import inspect
import io
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function or method as it is written, and what its docstring says."""

    name: str  # with its class: "JSONEncoder.encode"
    code: str  # without docstring, dedented, decorators left out
    docstring: str  # cleaned of indentation; "" if there is none
    line: int


def decode_source(content: bytes) -> str:
    r"""Return Python source as a string with "\n" line ends, by its own coding line.

    Raises:
        SyntaxError: an unknown coding, or bytes that are not of it.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise SyntaxError(str(error)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def functions_of(source: str) -> list[Function]:
    """Return the functions of a module and the methods of its classes, as they stand in it.

    Functions within functions belong to the outer one's code.

    Raises:
        SyntaxError: it does not parse.
    """
    with warnings.catch_warnings():  # about escapes in the source at hand
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (RecursionError, MemoryError, ValueError) as error:
            raise SyntaxError(str(error)) from error
    # Columns of the tree count UTF-8 bytes; lines end at "\n" alone, unlike str.splitlines.
    lines = [line.encode() for line in source.split("\n")]
    return [_function(name, node, lines) for name, node in _walk(tree, "")]


def _walk(parent: ast.AST, prefix: str) -> Iterator[tuple[str, FunctionNode]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _walk(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _walk(node, prefix)


def _function(name: str, node: FunctionNode, lines: list[bytes]) -> Function:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    found = ast.get_docstring(node, clean=False)
    start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    indent = lines[node.lineno - 1][: node.col_offset]
    if found is None:
        text = _slice(lines, start, end)
    else:
        text = _without_docstring(node, lines, start, end, indent)
    # Each line loses the function's own indentation where it has it: text within a string may not.
    code = b"\n".join(line.removeprefix(indent) for line in text.split(b"\n"))
    return Function(name, code.decode(), inspect.cleandoc(found or ""), node.lineno)


Place = tuple[int, int]  # line, from 1, and column in bytes


def _without_docstring(
    node: FunctionNode, lines: list[bytes], start: Place, end: Place, indent: bytes
) -> bytes:
    docstring = node.body[0]
    assert docstring.end_lineno is not None
    before = _slice(lines, start, (docstring.lineno, docstring.col_offset))
    if len(node.body) == 1:
        return before.rstrip() + b"\n" + indent + b"    pass"
    following = node.body[1]
    if following.lineno == docstring.end_lineno:  # `"doc"; return x`
        return before + _slice(lines, (following.lineno, following.col_offset), end)
    # Comments between the docstring and the next statement stay.
    return before.rstrip() + b"\n" + _slice(lines, (docstring.end_lineno + 1, 0), end)


def _slice(lines: list[bytes], start: Place, end: Place) -> bytes:
    part = lines[start[0] - 1 : end[0]]
    part[-1] = part[-1][: end[1]]
    part[0] = part[0][start[1] :]
    return b"\n".join(part)
