"""Batches made by data workers, and what is said of one that dies."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from polymodal.data.loader import PackedDataset
from polymodal.data.sampling import Refs
from polymodal.ground.errors import (
    DataError,
    PolymodalError,
    too_many_files,
)
from polymodal.ground.stopping import spare_worker
from polymodal.packed.batch import Batch


class _Safe(Dataset[Any]):
    """Hands mistakes of ours on as what they are: a worker would wrap them in its traceback."""

    def __init__(self, dataset: PackedDataset):
        self.dataset = dataset

    def __getitems__(self, refs: Refs) -> Batch | PolymodalError:
        try:
            return self.dataset[refs]
        except PolymodalError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def load_batches(
    dataset: PackedDataset,
    refs: Iterable[Refs],
    *,
    workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of these references, in order, by a plain DataLoader.

    Raises:
        DataError: data that can't be read; a worker that died.
    """
    loader = DataLoader(
        _Safe(dataset),
        batch_sampler=refs,  # type: ignore[arg-type]  # a Refs is handed on whole
        collate_fn=_as_it_is,  # __getitems__ made the batch
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=spare_worker,
        generator=torch.Generator(),  # or torch draws workers' seeds from the program's own state
    )
    try:
        for found in loader:
            if isinstance(found, PolymodalError):
                raise found
            yield found
    except (RuntimeError, OSError) as error:
        raise worker_failure(error) or error from error


def worker_failure(error: BaseException) -> DataError | None:
    """Return what to say of an error of torch's about a data worker, None for any other.

    It is raised wherever the training process happens to be when a worker dies.
    """
    text = str(error)
    if "Too many open files" in text or "items of ancdata" in text:
        return too_many_files()
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return DataError(
            f"a data worker died ({' '.join(text.split())}): often for lack of memory; lower "
            "data.workers, data.prefetch or data.batch_size"
        )
    return None
