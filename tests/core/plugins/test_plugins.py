import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from polymodal import hookimpl
from polymodal.config.reading import check_config, read_config
from polymodal.ground.errors import ConfigError, PluginError
from polymodal.plugins.discovery import Plugins
from polymodal.plugins.requirements import requirements

REGISTERING = """
from polymodal import hookimpl

@hookimpl
def polymodal_register(registry):
    registry.encoder("tower", "{name}_towers:Tower", "a tower")
"""


def distribution(folder, name, code=None, *, version="1.0", metadata=""):
    """Put a plugin into a folder as an installer would: a module and its dist-info."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
    )
    info.joinpath("entry_points.txt").write_text(f"[polymodal]\n{name} = {name}\n")
    code = REGISTERING.format(name=name) if code is None else code
    folder.joinpath(f"{name}.py").write_text(code)


def polymodal(folder, *arguments, code=0, **environment):
    """Run the command line with the distributions of a folder; no command here needs torch."""
    program = (
        "import sys\n"
        "from polymodal.commands.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules, 'torch'\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        check=False,
    )
    assert found.returncode == code, found.stderr or found.stdout
    return found


def plugin(register=None, **extra):
    module = ModuleType("made_up")
    vars(module).update(extra)
    if register:
        module.polymodal_register = hookimpl(register)
    return module


def test_importing_polymodal_or_asking_for_help_imports_no_torch():
    code = (
        "import sys, polymodal\n"
        "from typer.testing import CliRunner\n"
        "from polymodal.commands.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_listing_every_plugin_imports_no_torch():
    code = (
        "import sys\n"
        "from polymodal.plugins.discovery import installed\n"
        "assert all(p.status == 'ok' for p in installed().all()), installed().all()\n"
        "for name in ('torch', 'librosa', 'timm', 'torch_geometric', 'sklearn', 'av'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_listing_for_machines_imports_nothing_that_draws_tables():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from polymodal.commands.cli import app\n"
        "assert CliRunner().invoke(app, ['plugins', '--json']).exit_code == 0\n"
        "for name in ('polymodal.commands.tables', 'yaml'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_can_be_imported():
    import polymodal

    for name in polymodal.__all__:
        assert getattr(polymodal, name) is not None


def test_a_plugin_that_raises_on_import_is_kept_with_its_error_and_the_others_go_on(tmp_path):
    (tmp_path / "broken_sensor.py").write_text("raise RuntimeError('no such device')")
    sys.path.insert(0, str(tmp_path))
    try:
        points = [
            EntryPoint("broken", "broken_sensor", "polymodal"),
            EntryPoint("masking", "polymodal_masking", "polymodal"),
        ]
        found = Plugins(points)
        broken, masking = found.all()
    finally:
        sys.path.remove(str(tmp_path))
    assert broken.status == "broken" and broken.error == "RuntimeError: no such device"
    assert "broken_sensor.py" in broken.traceback
    assert masking.status == "ok"
    with pytest.raises(PluginError, match="'broken' is broken: RuntimeError: no such device"):
        found.find("broken.anything", "encoder")


def test_a_misspelt_hook_is_an_error_with_a_suggestion():
    def polymodal_registr(registry):
        pass

    module = plugin(polymodal_registr=hookimpl(polymodal_registr))
    found = Plugins([]).register("sensor", module)
    assert found.status == "broken"
    assert "unknown hook 'polymodal_registr'. Did you mean 'polymodal_register'?" in found.error


def test_a_plugin_for_a_newer_interface_is_refused_with_both_versions():
    found = Plugins([]).register("sensor", plugin(polymodal_interface=99))
    assert found.status == "broken"
    assert "version 99" in found.error and "version 1" in found.error


def test_two_distributions_that_claim_one_name_are_refused():
    points = [EntryPoint("x", "polymodal_masking", "polymodal"),
              EntryPoint("x", "polymodal_fusion", "polymodal")]  # fmt: skip
    assert "two distributions claim this name" in Plugins(points).get("x").error


def test_a_component_whose_package_is_missing_names_the_extra(tmp_path):
    (tmp_path / "needs_much.py").write_text("import a_package_nobody_has")
    sys.path.insert(0, str(tmp_path))
    try:
        found = Plugins([])
        found.register("s", plugin(lambda registry: registry.encoder("big", "needs_much:Big")))
        with pytest.raises(PluginError, match="pip install a_package_nobody_has"):
            found.find("s.big", "encoder").load()
        found.get("s").name, found.get("s").distribution = "vision", "polymodal"
        with pytest.raises(PluginError, match=r'pip install "polymodal\[vision\]"'):
            found.find("s.big", "encoder").load()
    finally:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("maskin.tokens", "No plugin is called 'maskin'. Did you mean 'masking'?"),
        ("masking.tokns", "Did you mean 'masking.tokens'?"),
        ("tokens", "Did you mean 'masking.tokens'?"),
        ("vision.patches", "is a tokenizer, but objective is wanted"),
    ],
)
def test_an_unknown_component_gets_the_nearest_name(name, text):
    with pytest.raises(PluginError) as caught:
        Plugins().find(name, "objective")
    assert text in str(caught.value)


def test_a_hundred_plugins_of_which_ten_raise_are_all_listed_without_torch(tmp_path):
    for number in range(100):
        code = f"raise RuntimeError('no device {number}')" if number % 10 == 0 else None
        distribution(tmp_path, f"dummy{number:02}", code, version=f"1.{number}")
    found = json.loads(polymodal(tmp_path, "plugins", "--json").stdout)
    dummies = [each for each in found if each["name"].startswith("dummy")]
    assert [each["version"] for each in dummies] == [f"1.{number}" for number in range(100)]
    broken = [each for each in dummies if each["status"] == "broken"]
    assert [each["error"] for each in broken] == [
        f"RuntimeError: no device {number}" for number in range(0, 100, 10)
    ]
    assert all("no device" in each["traceback"] for each in broken)
    assert dummies[1] == {
        "name": "dummy01", "distribution": "dummy01", "version": "1.1", "interface": 1,
        "status": "ok", "error": None, "traceback": None,
        "components": [{"name": "dummy01.tower", "kind": "encoder", "summary": "a tower"}],
    }  # fmt: skip


def test_the_table_has_versions_components_and_reasons_and_debug_the_tracebacks(tmp_path):
    distribution(tmp_path, "sound_one", version="2.3")
    distribution(tmp_path, "bad_one", "raise RuntimeError('no such\\ndevice')")
    table = polymodal(tmp_path, "plugins", "--debug")
    rows = {row.split()[0]: row.split(maxsplit=5) for row in table.stdout.splitlines() if row}
    assert [cell.strip() for cell in rows["sound_one"]] == [
        "sound_one", "sound_one", "2.3", "1", "ok", "tower",
    ]  # fmt: skip
    assert " ".join(rows["bad_one"]).split() == [
        "bad_one", "bad_one", "1.0", "broken", "RuntimeError:", "no", "such", "device",
    ]  # fmt: skip
    assert "bad_one.py" in table.stderr and "RuntimeError: no such" in table.stderr
    assert polymodal(tmp_path, "plugins").stderr == ""


def test_requirements_pin_a_distribution_once_with_the_extras_whose_packages_are_here(
    tmp_path, monkeypatch
):
    metadata = (
        "Provides-Extra: tuned\nProvides-Extra: lacking\n"
        "Requires-Dist: numpy; extra == 'tuned'\n"
        "Requires-Dist: a-package-nobody-has; extra == 'lacking'\n"
    )
    distribution(tmp_path, "toolbox", version="2.1+local", metadata=metadata)
    (tmp_path / "toolbox-2.1+local.dist-info" / "entry_points.txt").write_text(
        "[polymodal]\ntuned = toolbox\nlacking = toolbox\n"
    )
    distribution(tmp_path, "faulty", "1 / 0", version="0.3")
    monkeypatch.syspath_prepend(tmp_path)
    plugins = Plugins()
    found = requirements(plugins.get(name) for name in ("faulty", "lacking", "tuned"))
    assert found == [
        "toolbox[tuned]==2.1",
        "# faulty (faulty): broken: ZeroDivisionError: division by zero",
    ]
    assert any(line.startswith("polymodal[") for line in requirements(plugins.all()))


def test_requirements_are_lines_pip_reads(tmp_path):
    from packaging.requirements import Requirement

    distribution(tmp_path, "faulty", "1 / 0")
    lines = polymodal(tmp_path, "plugins", "--requirements").stdout.splitlines()
    assert [line for line in lines if line.startswith("#")]
    names = {Requirement(line).name for line in lines if not line.startswith("#")}
    assert names == {"polymodal"}


def test_a_plugin_that_exits_on_import_or_says_a_strange_version_is_broken(tmp_path, monkeypatch):
    distribution(tmp_path, "leaving", "raise SystemExit('give me a licence')")
    distribution(tmp_path, "worded", "polymodal_interface = 'two'")
    monkeypatch.syspath_prepend(tmp_path)
    found = Plugins()
    assert found.get("leaving").error == "SystemExit: give me a licence"
    assert found.get("worded").error == "polymodal_interface must be a whole number, got 'two'"


def test_a_plugin_whose_metadata_is_lost_works_without_a_version(tmp_path, monkeypatch):
    distribution(tmp_path, "anonymous")
    (tmp_path / "anonymous-1.0.dist-info" / "METADATA").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    found = Plugins().get("anonymous")
    assert (found.status, found.distribution) == ("ok", None)


RUN = """
streams:
  signal:
    tokenizer: {use: genome.bases}
    encoder: {use: faulty.tower}
objectives:
  words: {use: masking.tokens, stream: signal}
data:
  sources:
    spy: spy.rows
trainer: {max_steps: 1, device: cpu}
"""
SPY = """
from pathlib import Path
from polymodal import hookimpl

@hookimpl
def polymodal_register(registry):
    registry.source("rows", "spy_rows:Rows")
"""
SPY_ROWS = """
from pathlib import Path
from polymodal import Source
Path("read").touch()

class Rows(Source):
    def __len__(self): return 1
    def columns(self): return ("signal",)
    def row(self, index): return {"signal": "ACGT"}
"""


@pytest.fixture
def folder(tmp_path):
    distribution(tmp_path, "spy", SPY)
    (tmp_path / "spy_rows.py").write_text(SPY_ROWS)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def test_a_run_that_names_a_broken_plugin_stops_before_any_data_is_read(folder):
    distribution(folder, "faulty", "raise RuntimeError('no such device')", version="1.2")
    found = polymodal(folder, "train", "run.yaml", code=2)
    assert found.stderr == (
        "error: run.yaml:5: streams.signal.encoder.use: The plugin 'faulty' of faulty 1.2 is "
        "broken: RuntimeError: no such device\n"
    )
    assert not (folder / "read").exists() and not (folder / "runs").exists()
    found = polymodal(folder, "train", "run.yaml", "--debug", code=2)
    assert "The plugin 'faulty' raised:\nTraceback" in found.stderr
    assert f'File "{folder / "faulty.py"}", line 1' in found.stderr


def test_a_run_that_names_a_plugin_for_a_newer_interface_stops_with_both_versions(folder):
    distribution(folder, "faulty", "polymodal_interface = 7")
    found = polymodal(folder, "plan", "run.yaml", code=2)
    assert "built for interface version 7, this polymodal has version 1" in found.stderr
    assert "pip install -U polymodal" in found.stderr


def test_a_broken_component_of_a_run_shows_its_own_traceback_under_debug(tmp_path, monkeypatch):
    distribution(tmp_path, "shaky")
    (tmp_path / "shaky_towers.py").write_text("raise RuntimeError('no such device')")
    monkeypatch.syspath_prepend(tmp_path)
    found = Plugins()
    with pytest.raises(PluginError, match=r"shaky.tower can't be imported .*no such device"):
        found.find("shaky.tower", "encoder").load()
    assert "shaky_towers.py" in found.get("shaky").traceback


def test_the_allow_list_of_the_environment_keeps_the_others_out_unimported(folder):
    distribution(folder, "loud", "from pathlib import Path\nPath('imported').touch()")
    told = polymodal(folder, "plugins", "--json", POLYMODAL_PLUGINS="spy, genome")
    status = {each["name"]: (each["status"], each["error"]) for each in json.loads(told.stdout)}
    assert status["spy"] == status["genome"] == ("ok", None)
    assert status["loud"] == status["vision"] == ("blocked", "not in POLYMODAL_PLUGINS")
    assert not (folder / "imported").exists()
    distribution(folder, "faulty")
    found = polymodal(folder, "plan", "run.yaml", code=2, POLYMODAL_PLUGINS="spy,genome,masking")
    assert "'faulty' of faulty 1.0 is blocked: not in POLYMODAL_PLUGINS" in found.stderr


@pytest.mark.parametrize("command", ["plugins", "--help"])
def test_an_allow_list_that_names_no_plugin_is_an_error_with_the_nearest(tmp_path, command):
    found = polymodal(tmp_path, command, code=2, POLYMODAL_PLUGINS="vision,maskin")
    assert found.stderr == (
        "error: POLYMODAL_PLUGINS: No plugin is called 'maskin'. Did you mean 'masking'?\n"
    )


def test_an_empty_allow_list_allows_none(tmp_path):
    told = polymodal(tmp_path, "plugins", "--json", POLYMODAL_PLUGINS="")
    assert {each["status"] for each in json.loads(told.stdout)} == {"blocked"}


def test_an_allow_list_keeps_the_others_out():
    found = Plugins(allow=["masking"])
    assert found.get("masking").status == "ok"
    assert found.get("vision").status == "blocked"


def test_blocked_plugins_are_kept_out_of_the_part_alone_and_what_is_loaded_is_shared():
    whole = Plugins()
    part = whole.without(["masking"])
    with pytest.raises(PluginError, match="'masking' of .* is blocked: named in plugins.block"):
        part.find("masking.tokens", "objective")
    assert part.get("fusion") is whole.get("fusion")
    assert whole.find("masking.tokens", "objective")
    assert whole.without([]) is whole
    with pytest.raises(PluginError, match="Did you mean 'masking'"):
        whole.without(["maskin"])


def test_hooks_of_blocked_plugins_are_not_called():
    calls = []

    def started(directory, config):
        calls.append(directory)

    whole = Plugins([])
    for name in ("first", "second"):
        whole.register(name, plugin(polymodal_run_started=hookimpl(started)))
    part = whole.without(["first"])
    part.all()
    part.hook.polymodal_run_started(directory="here", config=None)
    assert calls == ["here"]


def test_a_config_that_blocks_a_plugin_is_refused_if_it_uses_it_and_leaves_the_next_alone(
    plugins, sensor_config
):
    blocking = {**sensor_config, "plugins": {"block": ["masking"]}}
    with pytest.raises(ConfigError, match="'masking' of .* is blocked: named in plugins.block"):
        check_config(blocking, plugins=plugins)
    assert check_config(sensor_config, plugins=plugins)


def test_a_config_that_blocks_no_plugin_there_is_gets_line_and_suggestion(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN + "plugins:\n  block: [contrastiv]\n")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "run.yaml")
    wanted = "No plugin is called 'contrastiv'. Did you mean 'contrastive'?"
    assert f"run.yaml:13: plugins.block: {wanted}" in str(caught.value)


COMMANDS = """
from polymodal import hookimpl

@hookimpl
def polymodal_commands(app):
    @app.command()
    def greet():
        print("hello")
"""


def test_a_plugin_adds_a_command_though_another_fails_to(tmp_path):
    distribution(tmp_path, "greeter", COMMANDS)
    distribution(tmp_path, "clumsy", COMMANDS.replace("@app.command()", "1 / 0"))
    found = polymodal(tmp_path, "greet")
    assert found.stdout == "hello\n"
    assert found.stderr == (
        "warning: the plugin 'clumsy' adds no commands: ZeroDivisionError: division by zero\n"
    )
    assert "greet" in polymodal(tmp_path, "--help").stdout


def test_the_same_name_may_serve_two_kinds_but_not_twice_one():
    def register(registry):
        registry.encoder("tower", "a:A")
        registry.tokenizer("tower", "a:B")

    assert Plugins([]).register("s", plugin(register)).status == "ok"

    def twice(registry):
        registry.encoder("tower", "a:A")
        registry.encoder("tower", "a:B")

    assert "registered twice" in Plugins([]).register("s", plugin(twice)).error
