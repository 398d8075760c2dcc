import subprocess
import sys

import pytest
import yaml

from polymodal.config.reading import check_config, read_config
from polymodal.ground.errors import ConfigError


def problems(values, plugins):
    with pytest.raises(ConfigError) as caught:
        check_config(values, plugins=plugins)
    return "\n".join(caught.value.problems)


def test_a_right_config_passes(sensor_config, plugins):
    config = check_config(sensor_config, plugins=plugins)
    assert config.trainer.max_steps == 6 and config.optimizer.clip == 1.0


def test_every_mistake_is_reported_in_one_go(sensor_config, plugins, tmp_path):
    sensor_config["trainer"]["max_stps"] = 3
    sensor_config["streams"]["signal"]["tokenizer"]["windw"] = 3
    sensor_config["objectives"]["rebuild"]["use"] = "masking.simim"
    sensor_config["data"]["batch_size"] = "many"
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(sensor_config, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        read_config(path, plugins=plugins)
    found = "\n".join(caught.value.problems)
    assert "unknown key 'max_stps'. Did you mean 'max_steps'?" in found
    assert "sensor.windows has no option 'windw'. Did you mean 'window'?" in found
    assert "no objective 'masking.simim'. Did you mean 'masking.simmim'?" in found
    assert "data.batch_size: input should be a valid integer, got 'many'" in found
    line = path.read_text().splitlines().index("  batch_size: many") + 1
    assert f"{path}:{line}: data.batch_size" in found


@pytest.mark.parametrize(
    ("where", "value", "text"),
    [
        (("streams", "signal", "tokenizer", "window"), "four", "window: must be int, got 'four'"),
        (("streams", "signal", "tokenizer", "window"), True, "must be int, got True"),
        (("streams", "signal", "tokenizer", "use"), "windows", "Did you mean 'sensor.windows'?"),
        (("streams", "signal", "tokenizer", "use"), "sensr.windows", "Did you mean 'sensor'?"),
        (("streams", "signal", "tokenizer", "use"), "sensor.signal", "is a reader, but tokenizer"),
        (("streams", "signal", "encoder"), "signl", "no encoder is called 'signl'"),
        (("data", "sources"), {}, "needs at least one source"),
        (("streams",), {}, "needs at least one stream"),
        (("data", "sources", "waves", "weight"), -1, "greater than or equal to 0"),
        (("optimizer",), {"schedule": "cosin"}, "'cosine', 'linear' or 'constant'"),
        (("trainer",), {}, "needs max_steps or epochs"),
        (("trainer", "accumulate"), 3, "3 does not divide data.batch_size 8"),
        (("objectives", "a-b"), {"use": "masking.simmim", "stream": "signal"}, "is no name"),
        (("plugins",), {"block": ["masing"]}, "Did you mean 'masking'?"),
        (("objectives", "rebuild"), {"use": "masking.simmim"}, "needs the option 'stream'"),
    ],
)
def test_a_mistake_is_named_with_its_place(sensor_config, plugins, where, value, text):
    section = sensor_config
    for step in where[:-1]:
        section = section[step]
    section[where[-1]] = value
    found = problems(sensor_config, plugins)
    assert text in found
    assert ".".join(where).split(".tokenizer")[0].split(".schedule")[0][:6] in found


@pytest.mark.parametrize("option", [{"precision": "float16"}, {"ledger_every": 10}])
def test_what_needs_whole_gradients_is_refused_with_shards(sensor_config, plugins, option):
    sensor_config["trainer"] |= {"strategy": "fsdp", **option}
    assert "needs the strategy ddp" in problems(sensor_config, plugins)


def test_overrides_and_environment_reach_the_config(sensor_config, plugins, tmp_path, monkeypatch):
    sensor_config["seed"] = "${oc.decode:${oc.env:SENSOR_SEED}}"
    monkeypatch.setenv("SENSOR_SEED", "7")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(sensor_config))
    config = read_config(path, ["trainer.max_steps=9", "data.workers=1"], plugins=plugins)
    assert (config.seed, config.trainer.max_steps, config.data.workers) == (7, 9, 1)


def test_a_part_set_to_null_is_taken_out_and_an_option_is_not(sensor_config, plugins, tmp_path):
    sensor_config["objectives"]["again"] = sensor_config["objectives"]["rebuild"]
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(sensor_config))
    changes = ["objectives.again=null", "optimizer.clip=null", "trackers.none=null"]
    config = read_config(file, changes, plugins=plugins)
    assert list(config.objectives) == ["rebuild"]
    assert config.optimizer.clip is None
    assert not config.trackers


def test_a_wrong_override_is_blamed_on_the_command_line(sensor_config, plugins, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(sensor_config))
    with pytest.raises(ConfigError, match="command line: trainer.max_steps"):
        read_config(path, ["trainer.max_steps=many"], plugins=plugins)
    with pytest.raises(ConfigError, match="must be written key=value"):
        read_config(path, ["trainer.max_steps"], plugins=plugins)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("streams: [", "not valid YAML"),
        ("- 1\n- 2", "must hold keys and values"),
        ("a: 1\na: 2", "duplicate"),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(tmp_path, plugins, text, reason):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_config(path, plugins=plugins)
    assert "\n" not in str(caught.value)


def test_a_missing_file_suggests_its_neighbour(tmp_path, plugins):
    (tmp_path / "quickstart.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match="Did you mean 'quickstart.yaml'"):
        read_config(tmp_path / "quikstart.yaml", plugins=plugins)


def test_misspelt_names_and_options_are_refused_without_torch(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "streams:\n"
        "  text:\n"
        "    tokenizer: {use: text.wordpiece, vocabulary_size: big}\n"
        "    encoder: text.transfrmer\n"
        "objectives: {mlm: {use: masking.tokens, stream: text, ratioo: 0.3}}\n"
        "data: {sources: {docs: {use: data.txt}}}\n"
        "trainer: {max_steps: 1}\n"
    )
    code = (
        "import sys\n"
        "from polymodal.config.reading import read_config\n"
        "from polymodal.ground.errors import ConfigError\n"
        "try:\n"
        f"    read_config({str(path)!r})\n"
        "except ConfigError as error:\n"
        "    assert len(error.problems) == 4, error\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
