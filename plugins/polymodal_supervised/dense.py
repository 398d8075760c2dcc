"""Dense prediction: numbers or a class at every pixel, from one view's tokens."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch

from polymodal import FieldName, FromRun, Loss, Need, Objective, Step, StreamInfo, StreamName, Taps
from polymodal_supervised.labels import labelled
from polymodal_supervised.readout import Readout, ReadoutOptions


class Dense(Objective):
    """Predict a map from the vectors of one or several blocks of a stream's encoder.

    Depth, normals or another picture with `outputs`, segmentation with `classes`. The map is as
    large as the image that the tokens were cut from, so that no random crop may be taken. Pixels
    that are NaN, or of a negative class, cost nothing; each other value is one count.

    Args:
        info: the streams.
        stream: whose tokens predict.
        label: field that holds the map, an array [height, width] or [height, width, outputs].
        cell: pixels on each side of a token: the tokenizer's `patch`.
        layers: blocks of the encoder whose vectors are read beside its last ones, as [2, 5, 8].
        readout: what is predicted and compared; see `ReadoutOptions`.

    Raises:
        ValueError: options out of range; in a step a DataError for a label that is no such map.
    """

    def __init__(
        self,
        info: FromRun[Mapping[str, StreamInfo]],
        *,
        stream: StreamName,
        label: FieldName,
        cell: int,
        layers: Sequence[int] = (),
        **readout: Unpack[ReadoutOptions],
    ):
        super().__init__()
        Need().check(info, stream)
        self.stream = stream
        self.layers = tuple(layers)
        self.readout = Readout(
            info[stream].width * (1 + len(self.layers)),
            field=label,
            cell=cell,
            **readout,
        )

    def needs(self) -> Mapping[str, Need]:
        """Return the stream; any tokens will do."""
        return {self.stream: Need()}

    def fields(self) -> tuple[str, ...]:
        """Return the field that holds the map."""
        return (self.readout.field,)

    def forward(self, step: Step) -> Loss:
        """Return the loss over known pixels of samples with the stream."""
        labels = labelled(step, self.stream, self.readout.field)
        encoded = step.encode(self.stream, taps=Taps(hidden=self.layers))
        vectors = torch.cat([encoded.vectors, *(encoded.hidden[n] for n in self.layers)], dim=1)
        layout, rows = encoded.layout.taken(list(labels))
        return self.readout(vectors[rows], layout, labels.values())

    def count(self, step: Step) -> int:
        """Return how many values are known."""
        labels = labelled(step, self.stream, self.readout.field)
        layout = step.tokens(self.stream).layout.taken(list(labels))[0]
        return self.readout.count(layout, labels.values())
