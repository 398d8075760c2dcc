"""Binocular prediction: what two views of a scene say together (CroCo, section 3.3)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

import torch

from polymodal import FieldName, FromRun, Loss, Need, Objective, Step, StreamInfo, StreamName, Taps
from polymodal_masking import cross_decoder
from polymodal_supervised.labels import labelled
from polymodal_supervised.readout import Readout, ReadoutOptions


class Binocular(Objective):
    """Predict a label of a pair of views: its relative pose, or flow or disparity at every pixel.

    Both views go through their encoder whole; the decoder of cross-view completion reads one with
    the other in sight, and a head reads its vectors. With `initialize` naming a run of
    `masking.cross_view` with the same decoder, the decoder starts from what was learned there.
    Samples that lack a view or a label cost nothing; each known value is one count.

    Args:
        info: the streams.
        stream: the view whose tokens predict.
        reference: the other view.
        label: field that holds a number or array [outputs]; with a `cell` an array [height, width]
            or [height, width, outputs].
        cell: pixels on each side of a token, for a map; unless given, the label is the pair's.
        layers: blocks of the decoder whose vectors are read beside its last ones.
        decoder_width: half the encoder's unless given.
        decoder_depth: how many blocks.
        decoder_heads: of attention; one for each 32 of width unless given.
        decoder_positions: "sinusoidal", or "rotary" (CroCo v2).
        readout: what is predicted and compared; see `ReadoutOptions`.

    Raises:
        ValueError: views that are not alike, or options out of range; in a step a DataError for a
            label that is not what the options say.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        reference: StreamName,
        label: FieldName,
        cell: int | None = None,
        layers: Sequence[int] = (),
        decoder_width: int | None = None,
        decoder_depth: int = 2,
        decoder_heads: int | None = None,
        decoder_positions: Literal["sinusoidal", "rotary"] = "sinusoidal",
        **readout: Unpack[ReadoutOptions],
    ):
        super().__init__()
        self.decoder = cross_decoder(
            info, stream, reference,
            width=decoder_width, depth=decoder_depth, heads=decoder_heads,
            positions=decoder_positions,
        )  # fmt: skip
        self.stream = stream
        self.reference = reference
        self.layers = tuple(layers)
        self.readout = Readout(
            self.decoder.width * (1 + len(self.layers)),
            field=label,
            cell=cell,
            **readout,
        )

    def needs(self) -> Mapping[str, Need]:
        """Return both views; any tokens will do."""
        return {self.stream: Need(), self.reference: Need()}

    def fields(self) -> tuple[str, ...]:
        """Return the field that holds the label."""
        return (self.readout.field,)

    def _labels(self, step: Step) -> dict[int, Any]:
        both = set(step.rows_with(self.stream, self.reference))
        found = labelled(step, self.stream, self.readout.field)
        return {row: value for row, value in found.items() if row in both}

    def forward(self, step: Step) -> Loss:
        """Return the loss over what is known of samples with both views."""
        labels = self._labels(step)
        view = step.encode(self.stream).take(list(labels))
        reference = step.encode(self.reference).take(list(labels))
        decoded = self.decoder(
            self.decoder.entry(view.vectors), view.layout, reference, taps=Taps(hidden=self.layers)
        )
        vectors = torch.cat([decoded.vectors, *(decoded.hidden[n] for n in self.layers)], dim=1)
        return self.readout(vectors, view.layout, labels.values())

    def count(self, step: Step) -> int:
        """Return how many values are known."""
        labels = self._labels(step)
        layout = step.tokens(self.stream).layout.taken(list(labels))[0]
        return self.readout.count(layout, labels.values())
