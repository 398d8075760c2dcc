"""The reader of molecules: SMILES strings to graphs of atoms and bonds."""

from typing import Any, Final, Literal

import numpy as np
from rdkit import Chem, rdBase

from polymodal import Reader, UnreadableError
from polymodal_graph.graph import Graph

ELEMENTS: Final = (
    "H", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca", "Cr", "Mn",
    "Fe", "Co", "Ni", "Cu", "Zn", "As", "Se", "Br", "Ag", "Sn", "Sb", "I", "Pt", "Au", "Hg", "Pb",
)  # fmt: skip
DEGREES: Final = (0, 1, 2, 3, 4, 5, 6)
CHARGES: Final = (-2, -1, 0, 1, 2)
HYDROGENS: Final = (0, 1, 2, 3, 4)
HYBRIDISATIONS: Final = ("S", "SP", "SP2", "SP3", "SP3D", "SP3D2")
BONDS: Final = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")

ATOM_KINDS: Final = len(ELEMENTS) + 1  # each list has one more place: anything else
BOND_KINDS: Final = len(BONDS) + 1
_LISTS: Final[tuple[tuple[Any, ...], ...]] = (ELEMENTS, DEGREES, CHARGES, HYDROGENS, HYBRIDISATIONS)
ATOM_FEATURES: Final = sum(len(known) + 1 for known in _LISTS) + 2


class SmilesReader(Reader):
    """Reads a molecule from its SMILES: atoms are nodes, each bond is two edges.

    With `atoms: features` a node has `ATOM_FEATURES` (63) numbers: one-hot element, degree,
    charge, number of hydrogens and hybridisation, each with a place for anything else, then
    aromatic and in a ring (after the atom features of the Open Graph Benchmark, Hu et al., 2020).
    With `atoms: elements` it has an id below `ATOM_KINDS` (34), its element. Edge kinds are below
    `BOND_KINDS` (5): single, double, triple, aromatic, other.

    Args:
        atoms: "features" or "elements".
        hydrogens: whether hydrogens are nodes too.
    """

    def __init__(
        self, *, atoms: Literal["features", "elements"] = "features", hydrogens: bool = False
    ):
        if atoms not in ("features", "elements"):
            raise ValueError(f"atoms must be features or elements, got {atoms!r}")
        self.atoms = atoms
        self.hydrogens = hydrogens

    def __call__(self, value: Any) -> Graph:
        """Return the molecule's graph.

        Raises:
            UnreadableError: no string, no valid SMILES, or no atoms.
        """
        if not isinstance(value, str):
            raise UnreadableError(f"a SMILES must be a string, got {type(value).__name__}")
        text = value.strip()
        if not text:
            raise UnreadableError("the SMILES is empty")
        with rdBase.BlockLogs():
            # rdkit answers None; torch_geometric's from_smiles would give an empty graph.
            molecule = Chem.MolFromSmiles(text)
            if molecule is None:
                raise UnreadableError(f"not a valid SMILES: {text[:80]!r}")
            if self.hydrogens:
                molecule = Chem.AddHs(molecule)
        atoms = list(molecule.GetAtoms())
        if not atoms:
            raise UnreadableError(f"a SMILES without atoms: {text[:80]!r}")
        bonds = [
            (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), _place(str(bond.GetBondType()), BONDS))
            for bond in molecule.GetBonds()
        ]
        table = np.array(bonds, dtype=np.int64).reshape(-1, 3)
        forward = table[:, :2]
        # Both directions of a bond stand side by side.
        edges = np.stack([forward, forward[:, ::-1]], axis=1).reshape(-1, 2).T
        kinds = table[:, 2].repeat(2)
        return Graph(self._nodes(atoms), np.ascontiguousarray(edges), kinds)

    def _nodes(self, atoms: list[Any]) -> np.ndarray:
        if self.atoms == "elements":
            return np.array([_place(atom.GetSymbol(), ELEMENTS) for atom in atoms], dtype=np.int64)
        features = np.zeros((len(atoms), ATOM_FEATURES), dtype=np.float32)
        for row, atom in zip(features, atoms, strict=True):
            found = (
                atom.GetSymbol(),
                atom.GetTotalDegree(),
                atom.GetFormalCharge(),
                atom.GetTotalNumHs(includeNeighbors=True),
                str(atom.GetHybridization()),
            )
            first = 0
            for known, item in zip(_LISTS, found, strict=True):
                row[first + _place(item, known)] = 1
                first += len(known) + 1
            row[first:] = atom.GetIsAromatic(), atom.IsInRing()
        return features


def _place(item: Any, known: tuple[Any, ...]) -> int:
    return known.index(item) if item in known else len(known)
