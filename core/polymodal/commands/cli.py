"""The command line. Commands import what they need when they run: `--help` imports no torch."""

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polymodal.ground.errors import DataError, PolymodalError, Stopped

if TYPE_CHECKING:
    from polymodal.plugins.registry import Plugin

DEBUG = "debug"  # the context's object where tracebacks are wanted

app = typer.Typer(
    name="polymodal",
    help="Pre-train encoders on any mix of modalities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Add --debug anywhere to see the traceback of an error.",
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the config.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


@app.command()
def train(
    config: ConfigPath,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; runs/<name of the config> unless given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model, evaluate it and write everything to a directory."""
    from polymodal.config.reading import read_config
    from polymodal.plugins.origin import Origin

    checked = read_config(config, overrides or [])
    from polymodal.commands.tables import score_table
    from polymodal.ground.distributed import rank
    from polymodal.training.parallel import processes
    from polymodal.training.train import Training

    directory = out or Path("runs") / config.stem
    with processes(checked.trainer.device):
        training = Training(
            checked,
            directory,
            resume=resume,
            origin=Origin(config, overrides or []),
            quiet=quiet or as_json,
        )
        rows = training.run()
        first = rank() == 0
    if not first:
        return
    if as_json:
        found = {"scores": rows, "failed": training.failed, "warnings": training.warnings}
        _print_json({"run": str(directory), **found})
        return
    if rows or training.failed:
        score_table(rows, training.failed)
    typer.echo(f"The run is in {directory}, the model in {directory / 'model'}")


@app.command()
def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STREAM=N[-MOST][:SHARE]",
            help="Tokens to expect of a sample, and the share of samples that have the stream; "
            "as many as there can be, and all, unless given.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a config would train and what a step would cost, without reading data."""
    from polymodal.config.reading import read_config
    from polymodal.plugins.origin import Origin

    absent: list[tuple[str, str]] = []  # what a training would refuse; a plan reads no data
    checked = read_config(config, overrides or [], absent=absent)
    from polymodal.commands.planning import make_plan
    from polymodal.commands.tables import plan_tables
    from polymodal.training.costs import Expected

    expected = Expected.parse(tokens or [])
    found = make_plan(checked, Origin(config, overrides or []), tokens=expected)
    found["absent"] = [f"{where}: {reason}" for where, reason in absent]
    if as_json:
        _print_json(found)
    else:
        plan_tables(found)


@app.command()
def evaluate(
    run: RunPath,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Run a run's evaluations on its saved model."""
    from polymodal.commands.tables import score_table
    from polymodal.ground.device import choose_device
    from polymodal.model.probing import run_evaluations
    from polymodal.runs.directory import RunDirectory
    from polymodal.runs.run import load, score_rows

    loaded = load(run, device=str(choose_device(device)))
    scores, failed = run_evaluations(loaded.builder.evaluations(), loaded.probe())
    rows = score_rows(scores, RunDirectory(run).untrained())
    RunDirectory(run).write_json("evaluation.json", {"scores": rows, "failed": failed})
    if as_json:
        _print_json({"run": str(run), "scores": rows, "failed": failed})
    elif rows or failed:
        score_table(rows, failed)
    else:
        typer.echo("The run's config names no evaluations.")
    if failed and not rows:
        raise typer.Exit(2)


@app.command()
def embed(
    run: RunPath,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILES|TABLE", help="What to embed.")
    ] = None,
    stream: Annotated[str, typer.Option(help="The stream whose encoder to use.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")] = Path(
        "embeddings.parquet"
    ),
    field: Annotated[
        str | None, typer.Option(help="The column of a table (CSV, JSONL, Parquet) to embed.")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option(help="A value itself, a text say; may be repeated.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="Project by this objective, to compare streams.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A folder that paths in a table may lead to; may be repeated."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    device: Annotated[str, typer.Option(help="Where to compute.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Write a vector for each file, row or value to a Parquet file."""
    from polymodal.commands.embedding import embed_to_parquet

    found = embed_to_parquet(
        run, stream, files or [], out, field=field, values=value or [], objective=objective,
        batch_size=batch_size, device=device, allow=allow or [],
    )  # fmt: skip
    for name, reason in found["skipped"]:
        typer.echo(f"skipped {name}: {reason}", err=True)
    if as_json:
        _print_json(found)
    else:
        typer.echo(f"{found['rows']} vectors of width {found['width']} are in {out}")


@app.command()
def ledger(run: RunPath, as_json: AsJson = False) -> None:
    """Show what each part of a step cost, of a run trained with trainer.ledger_every."""
    from polymodal.commands.tables import ledger_tables
    from polymodal.model.ledger import summarize
    from polymodal.runs.directory import RunDirectory

    directory = RunDirectory(run)
    records = directory.lines("ledger.jsonl")
    if not records:
        raise DataError(
            f"{directory.path / 'ledger.jsonl'} has no measured step; train with "
            "trainer.ledger_every=100, say, and for at least as many steps"
        )
    found = summarize(records)
    if as_json:
        _print_json(found)
    else:
        ledger_tables(found)


@app.command()
def compare(
    comparison: Annotated[
        Path, typer.Argument(metavar="COMPARISON", help="A YAML file with arms and seeds.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; runs/<name of the file> unless given.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train a recipe in several arms and seeds, and print a table of means and spreads."""
    from polymodal.commands.comparing import compare as run_comparison
    from polymodal.commands.comparing import markdown, read_comparison

    checked = read_comparison(comparison)
    directory = out or Path("runs") / comparison.stem
    rows = run_comparison(checked, directory, jobs=jobs)
    if as_json:
        _print_json({"out": str(directory), "rows": rows})
    else:
        typer.echo(markdown(rows))


@app.command()
def papers(
    folder: Annotated[
        Path | None, typer.Option(help="Where the recipes are; examples/papers unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes of papers: what each claims, what was measured, how to repeat it."""
    from polymodal.commands.papers import find_papers

    found = find_papers(folder)
    if as_json:
        _print_json([paper.as_json() for paper in found])
        return
    from polymodal.commands.tables import paper_table

    paper_table(found)


@app.command()
def plugins(
    context: typer.Context,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Print lines for pip, versions pinned.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the plugins of this environment, broken and blocked ones with the reason."""
    from polymodal.plugins.discovery import installed
    from polymodal.plugins.requirements import requirements as needed

    found = installed().all()
    if requirements:
        typer.echo("\n".join(needed(found)))
    elif as_json:
        _print_json([plugin.as_json() for plugin in found])
    else:
        from polymodal.commands.tables import plugin_table

        plugin_table(found)
        if context.obj == DEBUG:
            _print_tracebacks(found)


@app.command()
def describe(
    name: Annotated[
        str,
        typer.Argument(help="A component, vision.patches say, or a section of the config: data."),
    ],
    kind: Annotated[
        str | None, typer.Option(help="Where two kinds share the name: tokenizer, encoder ...")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a component does and its options, or the keys of a section of the config."""
    from polymodal.commands.describing import describe_component, describe_section
    from polymodal.commands.pages import component_page, page_width, section_page

    # Plugins may have a section's name (`data`); their components have a dot and another word.
    section = describe_section(name) if kind is None else None
    if section is not None:
        typer.echo(
            json.dumps(section, indent=2) if as_json else section_page(section, page_width())
        )
        return
    found = describe_component(name, kind)
    if as_json:
        _print_json(found)  # a list: two kinds may share a name
    else:
        typer.echo("\n\n".join(component_page(each, page_width()) for each in found))


@app.command()
def check(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="PLUGIN|COMPONENT", help="What to check.")],
    kind: Annotated[
        str | None, typer.Option(help="Where two kinds share the name: tokenizer, encoder ...")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a component, or all of a plugin, against what the core relies on."""
    import torch

    from polymodal.testing.command import run_check

    torch.set_num_threads(1)  # the checks' tensors are tiny: threads would only wait for each other
    raise typer.Exit(run_check(target, kind, as_json, debug=context.obj == DEBUG))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the plugin, for example heart-rate.")],
    kind: Annotated[
        str, typer.Option(help="What to start from: modality, tokenizer, objective, source ...")
    ] = "modality",
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; polymodal-NAME unless given.")
    ] = None,
) -> None:
    """Write a plugin of your own: a distribution with tests and an example, ready to publish."""
    from polymodal.commands.scaffold import write_distribution

    folder = write_distribution(name, kind, out=out)
    typer.echo(
        f"{folder} holds a working plugin. Next:\n\n"
        f'  cd {folder}\n  pip install -e ".[dev]"\n  pytest\n  polymodal train example.yaml\n\n'
        "README.md tells where things are and how to publish it."
    )


def _add_plugin_commands(arguments: list[str]) -> None:
    """Let plugins add commands, unless the command asked for is one of ours."""
    own = {command.name or command.callback.__name__ for command in app.registered_commands
           if command.callback}  # fmt: skip
    words = [word for word in arguments if not word.startswith("-")]
    if words and words[0] in own:
        return
    from polymodal.plugins.discovery import installed

    for plugin in installed().all():
        try:
            installed().call(plugin.name, "polymodal_commands", app=app)
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            sys.stderr.write(f"warning: the plugin {plugin.name!r} adds no commands: {reason}\n")


def _print_tracebacks(plugins: "Iterable[Plugin]") -> None:
    """Print where the modules of broken plugins raised."""
    for plugin in plugins:
        if plugin.traceback:
            sys.stderr.write(f"\nThe plugin {plugin.name!r} raised:\n{plugin.traceback}")


def _plugins_named(text: str) -> "list[Plugin]":
    """Return the plugins of this environment that an error message speaks of."""
    from polymodal.plugins.discovery import installed

    with suppress(PolymodalError):  # POLYMODAL_PLUGINS itself may be what is wrong
        found = installed()
        return [found.get(n) for n in found.names() if re.search(rf"\b{re.escape(n)}\b", text)]
    return []


def main() -> None:
    """Run the command line: a mistake a user can mend is one line and exit code 2."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments or bool(os.environ.get("POLYMODAL_DEBUG"))
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        _add_plugin_commands(arguments)
        app(args=arguments, prog_name="polymodal", obj=DEBUG if debug else None)
    except (PolymodalError, OSError) as error:  # OSError: a full disk, no permission
        if debug:
            traceback.print_exc()
            _print_tracebacks(_plugins_named(str(error)))
        for line in str(error).splitlines():
            sys.stderr.write(f"error: {line}\n")
        if "--json" in arguments:
            _print_json({"errors": str(error).splitlines()})
        sys.exit(128 + error.signal if isinstance(error, Stopped) else 2)


if __name__ == "__main__":
    main()
