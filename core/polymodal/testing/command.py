"""What `polymodal check` does."""

import json
import os

import typer

from polymodal.plugins import installed
from polymodal.testing.registry import Finding


def run_check(target: str, kind: str | None = None, as_json: bool = False) -> int:
    """Check a plugin or a component, print what was found, and return the exit code: 1 on failure.

    Raises:
        PluginError: no plugin or component has this name.
    """
    from polymodal.testing.checking import check_component, check_plugin

    plugins = installed()
    whole = "." not in target and kind is None
    findings = (
        check_plugin(target, plugins=plugins)
        if whole
        else check_component(target, kind, plugins=plugins)
    )
    failed = [finding for finding in findings if finding.status == "failed"]
    if as_json:
        typer.echo(
            json.dumps(
                {"passed": not failed, "findings": [each.as_json() for each in findings]}, indent=2
            )
        )
    else:
        _print(findings)
    return 1 if failed else 0


def _print(findings: list[Finding]) -> None:
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.component, finding.kind), []).append(finding)
    for (component, kind), found in groups.items():
        counts = {s: sum(f.status == s for f in found) for s in ("passed", "failed", "skipped")}
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        typer.echo(f"{component} ({kind}): {told}")
        for finding in found:
            if finding.status != "passed":
                typer.echo(f"  {finding.status} {finding.check}: {finding.message}")
                if finding.traceback and os.environ.get("POLYMODAL_DEBUG"):
                    typer.echo(finding.traceback)
