from polymodal.commands.tables import score_table
from polymodal.ground.progress import ProgressReport


def test_what_users_name_is_printed_as_it_is(capsys):
    row = {"evaluation": "[red]probe[/red]", "metric": "[/]at :key:", "higher_is_better": True,
           "value": 1.0, "untrained": None, "chance": None, "samples": 3}  # fmt: skip
    score_table([row])
    report = ProgressReport(3)
    report.say("the field [image] [/no]")
    found = capsys.readouterr()
    assert "[red]probe[/red]" in found.out and "[/]at :key:" in found.out
    assert "the field [image] [/no]" in found.err
