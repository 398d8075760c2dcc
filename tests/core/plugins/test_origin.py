import pytest

from polymodal import ConfigError, DataError
from polymodal.plugins.origin import load_yaml, read_yaml
from polymodal.runs.run import read_run_values

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("read", [load_yaml, read_yaml])
@pytest.mark.parametrize(
    ("text", "message"),
    [(LAUGHS, "aliases"), ("a: &a [*a]\n", ":1: .*recursive"), ("a: [1\n", "not valid YAML")],
)
def test_yaml_that_means_too_much_is_refused_before_it_is_made(tmp_path, read, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(path)


def test_a_foreign_runs_config_has_the_same_limits(tmp_path):
    (tmp_path / "config.yaml").write_text(LAUGHS)
    with pytest.raises(DataError, match="aliases"):
        read_run_values(tmp_path)
    for content in (b"", b"- 1\n"):
        (tmp_path / "config.yaml").write_bytes(content)
        with pytest.raises(DataError, match="no config of a run"):
            read_run_values(tmp_path)
    (tmp_path / "config.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_run_values(tmp_path)


def test_aliases_of_a_common_config_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert load_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    assert read_yaml(path).b.x == 1
