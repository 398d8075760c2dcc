"""What one package takes of another: the part of the house's rules that no contract can say."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import polymodal

ROOT = Path(__file__).parents[1]
PACKAGES = {
    path.name: path
    for folder in ("modalities", "plugins")
    for path in (ROOT / folder).glob("polymodal_*")
}
EXAMPLES = {"polymodal_ecg": ROOT / "examples/third_party/polymodal-ecg/polymodal_ecg"}


def exported(package: Path) -> set[str]:
    """The names in a package's `__all__`."""
    for node in ast.parse((package / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def imports(package: Path) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Files, modules imported there, and the names taken of each; none for `import module`."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name, ()) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield (
                    path,
                    "." * node.level + (node.module or ""),
                    tuple(alias.name for alias in node.names),
                )


def reached_in(package: Path) -> list[str]:
    """What a package takes of its neighbours that they do not export."""
    found = []
    for path, module, names in imports(package):
        owner, _, inner = module.partition(".")
        if owner == package.name or owner not in PACKAGES:
            continue
        if inner or not names:
            found.append(f"{path.name}: {module}")
        found += [
            f"{path.name}: {name} of {module}"
            for name in names
            if not inner and name not in exported(PACKAGES[owner])
        ]
    return found


@pytest.mark.parametrize("name", [*PACKAGES, *EXAMPLES])
def test_a_plugin_takes_of_others_what_their_init_exports(name):
    assert not reached_in((PACKAGES | EXAMPLES)[name])


def test_reaching_in_is_seen(tmp_path):
    package = tmp_path / "polymodal_newcomer"
    package.mkdir()
    (package / "words.py").write_text(
        "from polymodal_text import text_of, secret\n"
        "from polymodal_text.plain import text_of\n"
        "def late():\n    import polymodal_vision\n"
    )
    assert reached_in(package) == [
        "words.py: secret of polymodal_text",
        "words.py: polymodal_text.plain",
        "words.py: polymodal_vision",
    ]


def test_every_package_is_under_the_contracts():
    """One that is not listed would be checked by none of them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert set(settings["root_packages"]) == {"polymodal", *PACKAGES}
    contracts = {contract["id"]: contract for contract in settings["contracts"]}
    assert set(contracts["doors"]["source_modules"]) == set(PACKAGES)
    plugins, modalities, core = contracts["storeys"]["layers"]
    assert core == "polymodal"
    for layer, folder in [(plugins, "plugins"), (modalities, "modalities")]:
        here = {path.name for path in (ROOT / folder).glob("polymodal_*")}
        assert set(layer.replace(":", " ").split()) == here
    rooms = {path.parent.name for path in (ROOT / "core/polymodal").glob("*/__init__.py")}
    listed = {name.partition(".")[2] for name in contracts["doors"]["forbidden_modules"]}
    assert listed == rooms - {"testing"} | {"testing.*"}


@pytest.mark.parametrize("name", [*PACKAGES, *EXAMPLES])
def test_every_name_that_is_taken_from_polymodal_is_public(name):
    """No type checker sees a name that is missing: the package makes its names on demand."""
    for path, module, names in imports((PACKAGES | EXAMPLES)[name]):
        if module == "polymodal":
            assert set(names) <= set(polymodal.__all__), path


def test_every_public_name_is_there():
    for name in polymodal.__all__:
        assert getattr(polymodal, name) is not None
