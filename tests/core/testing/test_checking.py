"""`check_component`, `check_plugin` and the command around them."""

import json
import types

import pytest

from polymodal import PluginError, hookimpl
from polymodal.plugins.discovery import Plugins
from polymodal.testing import Example, check_component, check_plugin
from polymodal.testing.command import run_check


def plugins_with(examples=None, *, register=None):
    """Plugins of this environment and one called `mine`, with these examples."""

    @hookimpl
    def polymodal_register(registry):
        if register is None:
            registry.encoder("transformer", "polymodal:TransformerEncoder")
        else:
            register(registry)

    module = types.ModuleType("mine")
    module.polymodal_register = polymodal_register
    if examples is not None:

        @hookimpl
        def polymodal_examples():
            return examples()

        module.polymodal_examples = polymodal_examples
    found = Plugins()
    assert found.register("mine", module).error is None
    return found


def statuses(findings):
    return {finding.check: finding.status for finding in findings}


def test_an_encoder_without_an_example_is_checked_on_made_up_tokens():
    findings = check_component("mine.transformer", plugins=plugins_with())
    assert set(statuses(findings).values()) == {"passed"}
    assert {f.component for f in findings} == {"mine.transformer"}


def test_an_objective_without_an_example_gets_streams_that_will_do():
    findings = check_component(
        "masking.nodes", options={"stream": "graphs", "ratio": 0.3}, plugins=Plugins()
    )
    assert set(statuses(findings).values()) == {"passed"}


def test_an_example_of_a_component_not_registered_is_an_error():
    plugins = plugins_with(lambda: [Example("mine.other", "encoder")])
    with pytest.raises(PluginError, match="does not register"):
        check_plugin("mine", plugins=plugins)


def test_the_skips_of_an_example_are_told_with_their_reasons():
    example = Example(
        "mine.transformer", "encoder", {"size": "pico"}, skip={"packing": "tried elsewhere"}
    )
    findings = check_plugin("mine", plugins=plugins_with(lambda: [example]))
    skipped = [finding for finding in findings if finding.status == "skipped"]
    assert [(f.check, f.message) for f in skipped] == [("packing", "tried elsewhere")]


def test_a_constructor_that_refuses_is_one_failed_finding():
    example = Example("mine.transformer", "encoder", {"size": "pico", "width": 7, "heads": 2})
    (finding,) = check_plugin("mine", plugins=plugins_with(lambda: [example]))
    assert (finding.check, finding.status) == ("constructs", "failed")


def test_an_option_no_component_has_is_named():
    (finding,) = check_component("masking.mae", options={"streem": "patches"}, plugins=Plugins())
    assert finding.status == "failed" and "streem" in finding.message


def test_a_missing_extra_is_skipped_and_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "polymodal_tracking.weights_and_biases", raising=False)
    (finding,) = check_component("tracking.wandb", plugins=Plugins())
    assert (finding.check, finding.status) == ("constructs", "skipped")
    assert "pip install" in finding.message


def test_a_target_that_is_not_there_is_a_failure():
    def register(registry):
        registry.tracker("lacking", "no_such_module_of_mine:Absent")

    (finding,) = check_plugin("mine", plugins=plugins_with(register=register))
    assert finding.status == "failed" and "no_such_module_of_mine" in finding.message


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        ("maskin", None, "Did you mean 'masking'"),
        ("masking.mea", None, "Did you mean 'masking.mae'"),
        ("masking.mae", "objektive", "Did you mean 'objective'"),
        ("masking.mae", "encoder", "is an objective"),
    ],
)
def test_a_wrong_name_is_an_error_with_the_nearest(target, kind, message):
    with pytest.raises(PluginError, match=message):
        run_check(target, kind)


def test_the_command_prints_json_and_exits_with_0(capsys):
    assert run_check("generation.next_patch", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is True
    assert {"component", "kind", "check", "status", "rule", "message"} <= set(told["findings"][0])


def test_the_command_tells_failures_and_exits_with_1(capsys, monkeypatch):
    from polymodal.testing import command

    example = Example("mine.transformer", "encoder", {"size": "pico", "positions": "spiral"})
    plugins = plugins_with(lambda: [example])
    monkeypatch.setattr(command, "installed", lambda: plugins)
    assert run_check("mine") == 1
    out = capsys.readouterr().out
    assert "mine.transformer (encoder): 1 failed" in out
    assert "mine.transformer: positions: Input should be 'sinusoidal'" in out
