"""What pip needs to bring a run's plugins back."""

from collections.abc import Iterable
from importlib import metadata

from polymodal.plugins.registry import Plugin


def requirements(plugins: Iterable[Plugin]) -> list[str]:
    """Return lines for pip that bring these plugins back, one a distribution.

    Versions are pinned, as by `pip freeze`: a run is repeated with what it was made with. An extra
    named like a plugin stands in brackets if all it asks for is installed. What can't be used is a
    comment.
    """
    extras: dict[tuple[str, str], set[str]] = {}
    comments = []
    for plugin in plugins:
        if plugin.status != "ok" or not plugin.distribution or not plugin.version:
            told = plugin.error or "of no distribution"
            comments.append(f"# {plugin.name} ({plugin.distribution}): {plugin.status}: {told}")
            continue
        of = extras.setdefault((plugin.distribution, plugin.version.partition("+")[0]), set())
        if _has_extra(plugin.distribution, plugin.name):
            of.add(plugin.name)
    lines = [
        f"{distribution}{'[' + ','.join(sorted(of)) + ']' if of else ''}=={version}"
        for (distribution, version), of in sorted(extras.items())
    ]
    return lines + comments


def _has_extra(distribution: str, extra: str) -> bool:
    """Return whether a distribution has an extra, and all that asks for is installed."""
    from packaging.requirements import Requirement

    installed_as = metadata.distribution(distribution)
    if extra not in (installed_as.metadata.get_all("Provides-Extra") or ()):
        return False
    for line in installed_as.requires or ():
        wanted = Requirement(line)
        if wanted.marker and wanted.marker.evaluate({"extra": extra}):
            try:
                metadata.distribution(wanted.name)
            except metadata.PackageNotFoundError:
                return False
    return True
