import pytest

from polymodal import DataError
from polymodal.commands.papers import find_papers

PAPER = "title: T\nreference: A. Author, 2020\nclaim: it works\nstatus: shown\ncommand: do it\n"


def test_recipes_are_read_from_their_folders(tmp_path):
    (tmp_path / "second").mkdir()
    (tmp_path / "first").mkdir()
    (tmp_path / "notes").mkdir()
    for slug in ("first", "second"):
        (tmp_path / slug / "paper.yaml").write_text(PAPER)
    found = find_papers(tmp_path)
    assert [paper.slug for paper in found] == ["first", "second"]
    assert found[0].claim == "it works"


def test_a_recipe_that_lacks_something_is_named(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "paper.yaml").write_text("title: T\n")
    with pytest.raises(DataError, match=r"first.paper\.yaml.*claim"):
        find_papers(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        find_papers(tmp_path / "none")
