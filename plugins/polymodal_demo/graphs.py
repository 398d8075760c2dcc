"""Molecule-like graphs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polymodal_demo.generated import GeneratedSource, pick

ATOMS = ("C", "N", "O", "S", "F", "Cl")  # by node id
BONDS = ("single", "double", "aromatic")  # by edge kind
_SINGLE, _DOUBLE, _AROMATIC = range(3)

# Atoms of a group, first to last; each but the first says what it hangs on, and by which bond.
GROUPS: Mapping[str, Sequence[tuple[str, int, int]]] = {
    "carboxylic acid": (("C", 0, 0), ("O", 0, _DOUBLE), ("O", 0, _SINGLE)),
    "ester": (("C", 0, 0), ("O", 0, _DOUBLE), ("O", 0, _SINGLE), ("C", 2, _SINGLE)),
    "amide": (("C", 0, 0), ("O", 0, _DOUBLE), ("N", 0, _SINGLE)),
    "ketone": (("C", 0, 0), ("O", 0, _DOUBLE), ("C", 0, _SINGLE)),
    "ether": (("O", 0, 0), ("C", 0, _SINGLE)),
    "alcohol": (("C", 0, 0), ("O", 0, _SINGLE)),
    "amine": (("C", 0, 0), ("N", 0, _SINGLE)),
}
SKELETONS = ("chain", "star", "ring", "aromatic ring", "pair of rings", "fused rings")
_SIZES = {5: "five", 6: "six", 7: "seven"}
_TEMPLATES = (
    "a {skeleton} with {count} {group}",
    "{count} {group} on a {skeleton}",
    "a {skeleton} that bears {count} {group}",
    "{group} groups, {count}, on a {skeleton}",
)


class _Molecule:
    """Atoms and bonds as they are put together."""

    def __init__(self) -> None:
        self.atoms: list[int] = []
        self.bonds: list[tuple[int, int, int]] = []

    def add(self, atom: str, to: int | None = None, bond: int = _SINGLE) -> int:
        self.atoms.append(ATOMS.index(atom))
        if to is not None:
            self.bonds.append((to, len(self.atoms) - 1, bond))
        return len(self.atoms) - 1

    def ring(self, size: int, bond: int) -> list[int]:
        nodes = [self.add("C") for _ in range(size)]
        self.bonds += [(nodes[n - 1], nodes[n], bond) for n in range(size)]
        return nodes

    def chain(self, size: int, to: int | None = None) -> list[int]:
        nodes = []
        for _ in range(size):
            to = self.add("C", to)
            nodes.append(to)
        return nodes

    def shuffled(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the graph with its nodes in random order and every bond in both directions."""
        order = generator.permutation(len(self.atoms))
        place = np.argsort(order)
        bonds = np.array(self.bonds, dtype=np.int64).reshape(-1, 3)
        ends = place[bonds[:, :2].T]
        return {
            "node_ids": np.array(self.atoms, dtype=np.int64)[order],
            "edges": np.concatenate([ends, ends[::-1]], axis=1),
            "edge_kinds": np.tile(bonds[:, 2], 2),
        }


class Graphs(GeneratedSource):
    """Graphs like organic molecules of 8 to 24 atoms, with captions.

    A skeleton of carbon (chain, star, ring, aromatic ring, two rings joined by a bond, two fused
    rings; rings have 5 to 7 atoms) bears a functional group once, twice or three times
    (carboxylic acid, ester, amide, ketone, ether, alcohol, amine) and one to four stray
    atoms (carbon, fluorine, chlorine, sulphur, oxygen or nitrogen by a double bond). Nodes are
    in random order. They are not meant to be stable.

    What can be learned: which atoms hang together by which bonds, for several groups hold the
    same atoms; the shape of the skeleton; counting; and the words for all three. How many atoms
    of each kind there are is not enough.

    Fields: `graph` (`{"node_ids" [n], "edges" [2, e], "edge_kinds" [e]}`; ids 0 to 5 are C, N, O,
    S, F, Cl; kinds 0 to 2 single, double, aromatic; both directions listed), `text`, `label` (the
    group), `skeleton`, `count`.

    Args:
        samples: how many.
        seed: of everything drawn.
    """

    fields = ("graph", "text", "label", "skeleton", "count")

    def __init__(self, *, samples: int = 2000, seed: int = 0):
        super().__init__(samples=samples, seed=seed)

    def make(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """Return one graph and its caption."""
        skeleton, group = pick(generator, SKELETONS), pick(generator, list(GROUPS))
        count = int(generator.integers(1, 4))
        molecule = _Molecule()
        free, words = _skeleton(molecule, skeleton, generator)
        for node in generator.choice(free, count, replace=False):
            _attach(molecule, GROUPS[group], int(node))
        for _ in range(int(generator.integers(1, 5))):
            atom = pick(generator, ("C", "F", "Cl", "S", "O", "N"))
            bond = _DOUBLE if atom in ("O", "N") else _SINGLE
            molecule.add(atom, int(pick(generator, free)), bond)
        number = ("one", "two", "three")[count - 1]
        text = pick(generator, _TEMPLATES).format(skeleton=words, group=group, count=number)
        return {
            "graph": molecule.shuffled(generator),
            "text": text,
            "label": group,
            "skeleton": skeleton,
            "count": count,
        }


def _attach(molecule: _Molecule, group: Sequence[tuple[str, int, int]], node: int) -> None:
    nodes: list[int] = []
    for number, (atom, hangs_on, bond) in enumerate(group):
        if number == 0:
            nodes.append(molecule.add(atom, node))
        else:
            nodes.append(molecule.add(atom, nodes[hangs_on], bond))


def _skeleton(
    molecule: _Molecule, kind: str, generator: np.random.Generator
) -> tuple[list[int], str]:
    """Return the atoms that may bear a group, and words for the skeleton."""
    size = int(generator.integers(5, 8))
    if kind == "chain":
        return molecule.chain(size + 1), "chain"
    if kind == "star":
        centre = molecule.add("C")
        arms = [molecule.chain(2, centre) for _ in range(int(generator.integers(3, 5)))]
        return [node for arm in arms for node in arm], "star"
    if kind == "ring":
        return molecule.ring(size, _SINGLE), f"{_SIZES[size]} ring"
    if kind == "aromatic ring":
        return molecule.ring(6, _AROMATIC), "aromatic ring"
    first = molecule.ring(size, _SINGLE)
    if kind == "pair of rings":
        second = molecule.ring(5, _SINGLE)
        molecule.bonds.append((first[0], second[0], _SINGLE))
        return first[1:] + second[1:], "pair of rings"
    second = molecule.chain(4, first[0])  # the fused ring shares the bond first[0] - first[1]
    molecule.bonds.append((second[-1], first[1], _SINGLE))
    return first[2:] + second, "fused rings"
