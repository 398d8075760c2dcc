"""ecg: electrocardiograms as heartbeats, for polymodal.

Imported whenever plugins are listed, so it only names components; what they need is imported when
a config uses them.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1  # the version of polymodal's interfaces this is written for


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the components: `ecg.recording` and so on."""
    registry.reader("recording", "polymodal_ecg.recording:Recording", "arrays and .npy files")
    registry.tokenizer("beats", "polymodal_ecg.beats:Beats", "a token a heartbeat")
    registry.encoder(
        "beats", "polymodal_ecg.encoder:BeatEncoder", "convolution over beats, then a transformer"
    )
    registry.objective(
        "hidden_beats",
        "polymodal_ecg.hidden_beats:HiddenBeats",
        "hide beats behind the average of the others and predict them",
    )
    registry.source("rhythms", "polymodal_ecg.rhythms:Rhythms", "made-up recordings, no download")


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for `polymodal check ecg` and the tests."""
    from polymodal.testing import Example

    from polymodal_ecg.rhythms import Rhythms

    recordings = [Rhythms(seconds=s).row(i)["ecg"] for i, s in enumerate((4.0, 6.0, 12.0))]
    beats = {"use": "ecg.beats"}
    return [
        Example("ecg.recording", "reader", values=[*recordings, recordings[0][0].tolist()]),
        Example("ecg.beats", "tokenizer", {"seconds": 8.0}, raws=recordings),
        Example("ecg.beats", "encoder", {"depth": 1}, tokenizer=beats, raws=recordings),
        Example("ecg.hidden_beats", "objective", {"stream": "patches"}),
        Example("ecg.rhythms", "source", {"samples": 20}),
    ]
