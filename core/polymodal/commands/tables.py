"""Tables for people, printed with rich; whatever else reads output takes --json."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from polymodal.plugins.registry import Plugin

if TYPE_CHECKING:  # it would read YAML and pydantic, which most tables need neither of
    from polymodal.commands.papers import Paper


def _table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _console(width: int | None = None) -> Console:
    """Return where all tables go: what a user named, "[red]" or ":key:", is no markup there."""
    return Console(width=width, markup=False, emoji=False)


def _print(*tables: Table) -> None:
    console = _console()
    if not console.is_terminal:
        console = _console(width=140)
    for table in tables:
        console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def score_table(rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str] | None = None) -> None:
    """Print the scores of a run: trained, untrained, chance; and why evaluations have none."""
    table = _table(
        "", "evaluation", "metric", "trained", "untrained", "chance", "samples",
        right=("trained", "untrained", "chance", "samples"),
    )  # fmt: skip
    for row in rows:
        metric = row["metric"] if row["higher_is_better"] else f"{row['metric']} (lower is better)"
        table.add_row(
            row["evaluation"], metric, _number(row["value"]), _number(row["untrained"]),
            _number(row["chance"]), str(row["samples"]),
        )  # fmt: skip
    for name, reason in (failed or {}).items():
        table.add_row(name, f"failed: {reason}")
    _print(table)


def ledger_tables(ledger: Mapping[str, Any]) -> None:
    """Print what the parts of a step cost, and how the objectives' gradients agree."""
    numbers = ("tokens", "forward ms", "backward ms", "ms", "share", "saved MB", "gradient norm")
    parts = _table(
        f"A step, over {ledger['measured_steps']} measured", "part", "", *numbers, right=numbers
    )
    for line in ledger["parts"]:
        passes = [line.get("forward"), line.get("backward"), line["seconds"]]
        norm, saved = line.get("gradient_norm"), line.get("saved")
        parts.add_row(
            line["part"], line["of"], f"{line['tokens']:,.0f}" if "tokens" in line else "",
            *("" if each is None else f"{1000 * each:.2f}" for each in passes),
            f"{line['share']:.1%}", "" if saved is None else f"{saved / 1e6:.2f}",
            "" if norm is None else f"{norm:.3g}",
        )  # fmt: skip
    whole = f"{1000 * ledger['step']:.2f}"
    parts.add_row(
        "the step, by the clock", "", "", "", "", whole, f"{ledger['sum'] / ledger['step']:.1%}"
    )
    cosines = _table("Gradients", "of", "and", "cosine", "samples", right=("cosine", "samples"))
    for pair in ledger["cosines"]:
        cosines.add_row(*pair["of"], f"{pair['value']:+.3f}", str(pair["samples"]))
    _print(parts, *([cosines] if ledger["cosines"] else []))


def plan_tables(plan: Mapping[str, Any]) -> None:
    """Print what a config would train."""
    count = "parameters"
    streams = _table("Streams", "name", "field", "tokenizer", "tokens", "at most", "encoder",
                     right=("at most",))  # fmt: skip
    for s in plan["streams"]:
        of = f"{s['vocabulary']:,} ids" if s["vocabulary"] else f"{s['features']} values"
        most = "" if s["max_tokens"] is None else f"{s['max_tokens']:,}"
        streams.add_row(s["name"], s["field"], s["tokenizer"], of, most, s["encoder"])
    encoders = _table("Encoders", "name", "component", "width", count, "trained",
                      right=("width", count, "trained"))  # fmt: skip
    for e in plan["encoders"]:
        encoders.add_row(e["name"], e["use"], str(e["width"]), f"{e[count]:,}", f"{e['trained']:,}")
    objectives = _table("Objectives", "name", "component", "weight", "reads", count,
                        right=("weight", count))  # fmt: skip
    for o in plan["objectives"]:
        reads = ", ".join([*o["reads"], *(f"module {m}" for m in o["modules"])])
        objectives.add_row(o["name"], o["use"], f"{o['weight']:g}", reads, f"{o[count]:,}")
    sources = _table("Data", "name", "component", "share")
    for s in plan["sources"]:
        sources.add_row(
            s["name"], s["use"], "by rows" if s["share"] is None else f"{s['share']:.1%}"
        )
    tables = [streams, encoders, objectives, sources]
    if plan["modules"]:
        modules = _table("Modules", "name", "component", count, right=(count,))
        for m in plan["modules"]:
            modules.add_row(m["name"], m["use"], f"{m[count]:,}")
        tables.insert(2, modules)
    if plan["evaluate"]:
        evaluations = _table("Evaluations", "name", "component")
        for e in plan["evaluate"]:
            evaluations.add_row(e["name"], e["use"])
        tables.append(evaluations)
    _print(*tables)
    most = plan["most_tokens_per_step"]
    console = _console()
    console.print(
        f"{plan['parameters']:,} parameters ({plan['trained']:,} trained), "
        f"{plan['state_bytes'] / 1e6:,.0f} MB of weights, gradients and optimizer state; "
        f"{plan['batch_size']} samples a step"
        + ("" if most is None else f", {most:,} tokens at most")
        + ("" if plan["steps"] is None else f"; {plan['steps']:,} steps"),
        highlight=False,
    )
    costs = plan.get("costs", {})
    if "unknown" in costs:
        console.print(f"What a step costs is not known: {costs['unknown']}", highlight=False)
    elif costs:
        console.print(
            f"A step: {costs['flops'] / 1e12:.3g} TFLOP, and at most "
            f"{costs['activation_bytes'] / 1e6:,.0f} MB beside that, with "
            + ", ".join(
                str(each["least"])
                + ("" if each["least"] == each["most"] else f" to {each['most']}")
                + f" tokens of {name}"
                + ("" if each["share"] == 1 else f" in {each['share']:.0%} of the samples")
                for name, each in costs["tokens"].items()
            ),
            highlight=False,
        )
    for line in plan.get("absent", ()):
        console.print(f"Not there yet: {line}", highlight=False, markup=False)


def plugin_table(plugins: Sequence[Plugin]) -> None:
    """Print the plugins of an environment; the last column has the reason where one is no use."""
    table = _table("", "plugin", "distribution", "version", "interface", "status", "components")
    for p in plugins:
        names = ", ".join(sorted({c.name.partition(".")[2] for c in p.components.values()}))
        interface = "" if p.interface is None else str(p.interface)
        row = (p.name, p.distribution or "", p.version or "", interface, p.status, p.error or names)
        table.add_row(*row)
    _print(table)


def paper_table(papers: "Sequence[Paper]") -> None:
    """Print the recipes of papers."""
    table = _table("", "recipe", "title", "claim", "status", "command")
    for p in papers:
        table.add_row(p.slug, p.title, p.claim, p.status, p.command)
    _print(table)
