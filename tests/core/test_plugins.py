import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from polymodal import hookimpl
from polymodal.errors import PluginError
from polymodal.plugins import Plugins


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
        "from polymodal.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_listing_every_plugin_imports_no_torch():
    code = (
        "import sys\n"
        "from polymodal.plugins import installed\n"
        "assert all(p.status == 'ok' for p in installed().all()), installed().all()\n"
        "for name in ('torch', 'librosa', 'timm', 'torch_geometric', 'sklearn', 'av'):\n"
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


def test_a_blocked_plugin_can_not_be_used_and_a_wrong_name_is_refused():
    found = Plugins(block=["masking"])
    assert found.get("masking").status == "blocked"
    with pytest.raises(PluginError, match="blocked by plugins.block"):
        found.find("masking.tokens", "objective")
    with pytest.raises(PluginError, match="Did you mean 'masking'"):
        Plugins(block=["maskin"])


def test_an_allow_list_keeps_the_others_out():
    found = Plugins(allow=["masking"])
    assert found.get("masking").status == "ok"
    assert found.get("vision").status == "blocked"
    with pytest.raises(PluginError, match="POLYMODAL_PLUGINS: no plugin is called 'nothing'"):
        Plugins(allow=["nothing"])


def test_the_same_name_may_serve_two_kinds_but_not_twice_one():
    def register(registry):
        registry.encoder("tower", "a:A")
        registry.tokenizer("tower", "a:B")

    assert Plugins([]).register("s", plugin(register)).status == "ok"

    def twice(registry):
        registry.encoder("tower", "a:A")
        registry.encoder("tower", "a:B")

    assert "registered twice" in Plugins([]).register("s", plugin(twice)).error
