"""What `polymodal check` does."""

import json
import time
from collections import Counter
from collections.abc import Sequence

import typer

from polymodal.plugins.discovery import installed
from polymodal.testing.registry import Finding


def run_check(
    target: str, kind: str | None = None, as_json: bool = False, *, debug: bool = False
) -> int:
    """Check a plugin or a component, print what was found, and return the exit code: 1 on failure.

    Raises:
        PluginError: no plugin or component has this name.
    """
    from polymodal.testing.checking import check_component, components_of

    plugins = installed()
    began = time.perf_counter()
    findings: list[Finding] = []
    components = components_of(target, kind, plugins)
    for each, name in components:
        found = check_component(name, each, plugins=plugins)
        findings += found
        if not as_json:
            _print(f"{name} ({each})", found, debug)
    passed = all(finding.status != "failed" for finding in findings)
    if as_json:
        told = {"passed": passed, "findings": [each.as_json() for each in findings]}
        typer.echo(json.dumps(told, indent=2))
    elif len(components) > 1:
        seconds = time.perf_counter() - began
        typer.echo(f"\n{len(components)} components: {_counts(findings)} in {seconds:.0f} s")
    if not passed and not as_json and not debug:
        typer.echo("--debug shows the traceback of each check that failed.")
    return 0 if passed else 1


def _counts(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.status for finding in findings)
    return ", ".join(f"{counts[s]} {s}" for s in ("passed", "failed", "skipped") if counts[s])


def _print(title: str, findings: Sequence[Finding], debug: bool) -> None:
    typer.echo(f"{title}: {_counts(findings)}")
    for finding in findings:
        if finding.status == "skipped":
            typer.echo(f"  skipped {finding.check}: {finding.message}")
        elif finding.status == "failed":
            typer.echo(f"  failed {finding.check}: {finding.message}")
            typer.echo(f"    The rule: {finding.rule}")
            if debug and finding.traceback:
                typer.echo(finding.traceback)
