"""Molecule-like graphs with captions."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from polymodal_demo.drawn import DrawnSource, pick

ATOMS = ("carbon", "nitrogen", "oxygen", "sulfur", "chlorine")  # node ids 0 to 4
SINGLE, DOUBLE, AROMATIC = range(3)  # edge kinds
GROUPS = {  # what hangs on the skeleton: its atom and bond
    "hydroxyl": ("oxygen", SINGLE),
    "carbonyl": ("oxygen", DOUBLE),
    "amine": ("nitrogen", SINGLE),
    "thiol": ("sulfur", SINGLE),
    "chloride": ("chlorine", SINGLE),
}
_NUMBERS = ("no", "a", "two", "three", "four")
_CAPTIONS = (
    "a {motif} with {groups}",
    "a {motif} that bears {groups}",
    "{groups} on a {motif}",
    "a molecule: a {motif} and {groups}",
)
_BARE_CAPTIONS = ("a bare {motif}", "a {motif} without groups", "a molecule: a plain {motif}")


class _Skeleton:
    """Bonds between numbered atoms, growing."""

    def __init__(self) -> None:
        self.bonds: list[tuple[int, int, int]] = []
        self.size = 0

    def atom(self, *bonded: int, bond: int = SINGLE) -> int:
        """Add an atom with bonds to these, and return its number."""
        self.size += 1
        self.bonds += [(self.size - 1, other, bond) for other in bonded]
        return self.size - 1

    def ring(self, length: int, bond: int) -> list[int]:
        atoms = [self.atom()]
        while len(atoms) < length - 1:
            atoms.append(self.atom(atoms[-1], bond=bond))
        return [*atoms, self.atom(atoms[-1], atoms[0], bond=bond)]

    def chain(self, start: int, length: int, rng: np.random.Generator) -> int:
        """Grow a chain from an atom; now and then a bond of it is double."""
        for _ in range(length):
            start = self.atom(start, bond=DOUBLE if rng.random() < 0.15 else SINGLE)
        return start


Grow = Callable[[_Skeleton, np.random.Generator], None]


def _ring_bond(rng: np.random.Generator) -> int:
    return pick(rng, (SINGLE, AROMATIC))


def _one_ring(length: int) -> Grow:
    """A ring with tails, so that it has as many atoms as other motifs."""

    def grow(skeleton: _Skeleton, rng: np.random.Generator) -> None:
        atoms = skeleton.ring(length, _ring_bond(rng))
        first, second = rng.choice(length, 2, replace=False)
        tail = int(rng.integers(2, 7))
        cut = int(rng.integers(tail + 1))
        skeleton.chain(atoms[first], cut, rng)
        skeleton.chain(atoms[second], tail - cut, rng)

    return grow


def _fused(skeleton: _Skeleton, rng: np.random.Generator) -> None:
    """Two rings that share a bond."""
    bond = _ring_bond(rng)
    atoms = skeleton.ring(int(rng.integers(5, 7)), bond)
    end = atoms[0]
    for _ in range(int(rng.integers(2, 4))):
        end = skeleton.atom(end, bond=bond)
    skeleton.atom(end, atoms[1], bond=bond)
    skeleton.chain(atoms[2], int(rng.integers(3)), rng)


def _linked(skeleton: _Skeleton, rng: np.random.Generator) -> None:
    """Two rings with a chain of none or one atom between."""
    bond = _ring_bond(rng)
    first = skeleton.ring(int(rng.integers(5, 7)), bond)
    second = skeleton.ring(int(rng.integers(5, 7)), bond)
    end = skeleton.chain(first[0], int(rng.integers(2)), rng)
    skeleton.bonds.append((end, second[0], SINGLE))


def _chain(skeleton: _Skeleton, rng: np.random.Generator) -> None:
    skeleton.chain(skeleton.atom(), int(rng.integers(7, 12)), rng)


def _star(skeleton: _Skeleton, rng: np.random.Generator) -> None:
    """Three or four arms from one atom."""
    centre = skeleton.atom()
    for _ in range(int(rng.integers(3, 5))):
        skeleton.chain(centre, int(rng.integers(2, 4)), rng)


MOTIFS: dict[str, Grow] = {
    "five ring": _one_ring(5),
    "six ring": _one_ring(6),
    "fused ring pair": _fused,
    "linked ring pair": _linked,
    "chain": _chain,
    "star": _star,
}


class Graphs(DrawnSource):
    """Graphs made here: `graph`, `text`, `label` (the motif), `groups`.

    `graph` is `{"node_ids": [node], "edges": [2, edge], "edge_kinds": [edge]}`, int64. A node is
    an atom (ids 0 to 4: carbon, nitrogen, oxygen, sulfur, chlorine), an edge a bond, listed both
    ways (kinds 0 to 2: single, double, aromatic). The skeleton is one of six motifs: a ring of
    five or six atoms with tails, two rings that share a bond, two rings with a link between, a
    chain, or a star of three or four arms. Some of its atoms are nitrogen or oxygen, and 0 to 3
    groups (hydroxyl, carbonyl, amine, thiol, chloride) hang on it. Nodes are shuffled. No valence
    is minded: they look like molecules but need not be any. `groups` lists the groups in
    alphabetical order ("" for none), and `text` tells motif and groups in one of four phrasings.

    What can be learnt: the motif (6 classes), from the way bonds run: motifs overlap in their
    numbers of atoms and share atoms, bonds and groups. Beside it which groups there are: 336
    captions differ in meaning.

    Args:
        samples: how many rows.
        seed: of all that is drawn.
    """

    def __init__(self, *, samples: int = 2000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def columns(self) -> tuple[str, ...]:
        """Return the fields of a row."""
        return ("graph", "text", "label", "groups")

    def draw(self, index: int, rng: np.random.Generator) -> Mapping[str, Any]:
        """Return a graph of a motif, with atoms and groups drawn apart from it."""
        motif = pick(rng, [*MOTIFS])
        skeleton = _Skeleton()
        MOTIFS[motif](skeleton, rng)
        atoms = rng.choice(3, skeleton.size, p=(0.8, 0.1, 0.1)).tolist()
        groups = sorted(pick(rng, [*GROUPS]) for _ in range(int(rng.integers(4))))
        for place, group in zip(
            rng.choice(skeleton.size, len(groups), replace=False).tolist(), groups, strict=True
        ):
            atom, bond = GROUPS[group]
            atoms.append(ATOMS.index(atom))
            skeleton.atom(place, bond=bond)
        return {
            "graph": _shuffled(atoms, skeleton.bonds, rng),
            "text": _caption(motif, groups, rng),
            "label": motif,
            "groups": ", ".join(groups),
        }


def _shuffled(
    atoms: list[int], bonds: list[tuple[int, int, int]], rng: np.random.Generator
) -> dict[str, Any]:
    order = rng.permutation(len(atoms))
    node_ids = np.empty(len(atoms), np.int64)
    node_ids[order] = atoms
    ends = np.array(bonds, np.int64)
    edges = order[ends[:, :2].T]
    return {
        "node_ids": node_ids,
        "edges": np.concatenate([edges, edges[::-1]], axis=1).astype(np.int64),
        "edge_kinds": np.tile(ends[:, 2], 2),
    }


def _caption(motif: str, groups: list[str], rng: np.random.Generator) -> str:
    if not groups:
        return pick(rng, _BARE_CAPTIONS).format(motif=motif)
    parts = []
    for group, count in Counter(groups).items():
        article = "an" if group[0] in "aeiou" else "a"
        parts.append(f"{_NUMBERS[count]} {group}s" if count > 1 else f"{article} {group}")
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return pick(rng, _CAPTIONS).format(motif=motif, groups=listed)
