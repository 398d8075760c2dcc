"""Hugging Face data sets."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polymodal import DataError, FolderPath, nearest, split_named
from polymodal_data.stored import StoredRows, StoredSource

_ROWS = 16  # of a data set, that its fingerprint looks into


class Hub(StoredSource):
    """Rows of a Hugging Face data set: by its name on the hub, or a `save_to_disk` folder.

    All splits follow each other, and the field `split` tells them apart, so that
    `split: {column: split}` keeps them ("valid", "val" and "dev" are called validation). Images,
    sound and video come as `{"path", "bytes"}` for the modality's reader; class labels as their
    names. A data set on the hub is fetched once and kept by `datasets` in its own cache; with
    HF_HUB_OFFLINE=1 only the cache is asked.

    Args:
        name: "owner/name", or a folder.
        configuration: of a data set on the hub that has several.
        splits: take these only.
        revision: commit, tag or branch of a data set on the hub.
        allow: folders that paths in its rows may lead to, beside its own and the hub's cache.

    Raises:
        ValueError: an empty list of splits.
    """

    def __init__(
        self,
        *,
        name: str,
        configuration: str | None = None,
        splits: list[str] | None = None,
        revision: str | None = None,
        allow: list[FolderPath] | None = None,
    ):
        if splits is not None and not splits:
            raise ValueError("splits must name at least one, or be left out for all")
        self.name = name
        self.configuration = configuration
        self.splits = splits
        self.revision = revision
        self.allow = tuple(allow or ())

    def folders(self) -> list[str]:
        """Return the data set's folder, or where `datasets` keeps what it fetches."""
        from datasets import config

        folder = Path(self.name).expanduser()
        if folder.is_dir():
            return [str(folder), *self.allow]
        return [str(config.HF_DATASETS_CACHE), str(config.DOWNLOADED_DATASETS_PATH), *self.allow]

    def _inputs(self) -> list[tuple[str, Path]]:
        return []

    def fingerprint(self) -> str:
        """Return a name for the data: from its columns, its size and some of its rows."""
        size = len(self)
        some = sorted({round(n * (size - 1) / (_ROWS - 1)) for n in range(_ROWS)}) if size else []
        digest = hashlib.sha256(repr((size, self._stored.dataset.features)).encode())
        for row in self._stored.rows(some):
            digest.update(repr(row).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()[:32]

    def _store(self) -> StoredRows:
        from datasets import DatasetDict, concatenate_datasets

        with _quiet():
            found = self._load()
            if isinstance(found, DatasetDict):
                for split in self.splits or ():
                    if split not in found:
                        raise DataError(
                            f"{self.name} has no split {split!r}.{nearest(split, found)}"
                        )
                parts = {split: found[split] for split in self.splits or found}
            elif self.splits:
                raise DataError(f"{self.name} is a single table without splits; leave splits out")
            else:
                parts = {"train": found}
            try:
                whole = concatenate_datasets(
                    [_with_split(_undecoded(part), split) for split, part in parts.items()]
                )
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"{self.name}: its splits {', '.join(parts)} differ in their columns; "
                    "name one under splits"
                ) from error
        return StoredRows(whole)

    def _load(self) -> Any:
        from datasets import load_dataset, load_from_disk

        folder = Path(self.name).expanduser()
        saved = [folder / name for name in ("dataset_info.json", "dataset_dict.json")]
        try:
            if any(file.is_file() for file in saved):
                return load_from_disk(str(folder))
            if folder.is_dir():
                raise DataError(
                    f"{self.name} is a folder, but not one that save_to_disk wrote; use "
                    "data.folder for media files and data.table for tables"
                )
            return load_dataset(self.name, self.configuration, revision=self.revision)
        except DataError:
            raise
        except Exception as error:  # hub, network, file system and parser errors of all kinds
            reason = " ".join(str(error).split())
            raise DataError(f"{self.name} can't be loaded: {reason}") from error

    def _finish(self, row: dict[str, Any]) -> dict[str, Any]:
        for name, names in self._class_names.items():
            number = row[name]
            # -1 is how `datasets` marks a row without a label
            row[name] = names[number] if number is not None and number >= 0 else None
        return row

    @property
    def _class_names(self) -> dict[str, Sequence[str]]:
        from datasets import ClassLabel

        features = self._stored.dataset.features
        return {n: f.names for n, f in features.items() if isinstance(f, ClassLabel)}

    @property
    def finished(self) -> tuple[str, ...]:  # type: ignore[override]
        """Class labels."""
        return tuple(self._class_names)


def _undecoded(dataset: Any) -> Any:
    """Return a data set whose media come as paths and bytes, within lists too."""
    for name, feature in dataset.features.items():
        plain = _plain(feature)
        if plain is not feature:
            dataset = dataset.cast_column(name, plain)
    return dataset


def _plain(feature: Any) -> Any:
    from datasets import Audio, Image, List, Video

    if isinstance(feature, Audio | Image | Video):
        return type(feature)(decode=False)
    if isinstance(feature, List):
        inner = _plain(feature.feature)
        return feature if inner is feature.feature else List(inner, length=feature.length)
    return feature


def _with_split(dataset: Any, split: str) -> Any:
    if "split" in dataset.column_names:
        return dataset
    return dataset.add_column("split", [split_named(split) or split] * len(dataset))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep `datasets` from drawing progress bars meanwhile."""
    from datasets import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
