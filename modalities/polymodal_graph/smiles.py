"""The reader of molecules: SMILES strings to graphs of atoms and bonds."""

from typing import Any, Final, Literal

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdCIPLabeler

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

CENTRES: Final = ("none", "R", "S")  # and a fourth: any other label, such as r and s
DOUBLE_BONDS: Final = ("Z", "E")  # kinds of their own, behind the others
_CIP_STEPS = 1_250_000  # a second or so; symmetric cages would take for ever


class SmilesReader(Reader):
    """Reads a molecule from its SMILES: atoms are nodes, each bond is two edges.

    With `atoms: features` a node has `ATOM_FEATURES` (63) numbers: one-hot element, degree,
    charge, number of hydrogens and hybridisation, each with a place for anything else, then
    aromatic and in a ring (after the atom features of the Open Graph Benchmark, Hu et al., 2020).
    With `atoms: elements` it has an id below `ATOM_KINDS` (34), its element. Edge kinds are below
    `BOND_KINDS` (5): single, double, triple, aromatic, other. What follows a blank is a name, as
    in .smi files, and is left out.

    With `stereo` mirror images and cis-trans isomers differ, by the labels of Cahn, Ingold and
    Prelog: unlike the marks "@" and "/" (and OGB's chirality feature, which is made of them) they
    do not depend on the order in which a SMILES lists the atoms, which graphs don't keep.

    Args:
        atoms: "features" or "elements".
        hydrogens: whether hydrogens are nodes too.
        stereo: append four features, one-hot: no centre, R, S, other (or, of elements, make the
            id element + 34 * centre, below 136), and give Z and E double bonds the edge kinds 5
            and 6.
        isotopes: append one feature: the mass number of an isotope, less that of the element's
            commonest; 0 where none is given.

    Raises:
        ValueError: isotopes of atoms that have ids.
    """

    def __init__(
        self,
        *,
        atoms: Literal["features", "elements"] = "features",
        hydrogens: bool = False,
        stereo: bool = False,
        isotopes: bool = False,
    ):
        if atoms not in ("features", "elements"):
            raise ValueError(f"atoms must be features or elements, got {atoms!r}")
        if isotopes and atoms == "elements":
            raise ValueError("isotopes are a feature: they need atoms: features, not elements")
        self.atoms = atoms
        self.hydrogens = hydrogens
        self.stereo = stereo
        self.isotopes = isotopes

    def __call__(self, value: Any) -> Graph:
        """Return the molecule's graph.

        Raises:
            UnreadableError: no string, no valid SMILES, several of them, or no atoms.
        """
        if not isinstance(value, str):
            raise UnreadableError(f"a SMILES must be a string, got {type(value).__name__}")
        text = value.strip()
        if not text:
            raise UnreadableError("the SMILES is empty")
        if len(text.splitlines()) > 1:  # rdkit would read the first and take the rest for its name
            raise UnreadableError(f"a SMILES is one line, got {len(text.splitlines())}")
        with rdBase.BlockLogs():
            molecule = self._molecule(text)
        atoms = list(molecule.GetAtoms())
        if not atoms:
            raise UnreadableError(f"a SMILES without atoms: {text[:80]!r}")
        bonds = [
            (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), self._bond_kind(bond))
            for bond in molecule.GetBonds()
        ]
        table = np.array(bonds, dtype=np.int64).reshape(-1, 3)
        forward = table[:, :2]
        # Both directions of a bond stand side by side.
        edges = np.stack([forward, forward[:, ::-1]], axis=1).reshape(-1, 2).T
        kinds = table[:, 2].repeat(2)
        return Graph(self._nodes(atoms), np.ascontiguousarray(edges), kinds)

    def _molecule(self, text: str) -> Any:
        try:
            # rdkit answers None; torch_geometric's from_smiles would give an empty graph.
            molecule = Chem.MolFromSmiles(text)
        except UnicodeEncodeError:  # half a surrogate pair
            molecule = None
        if molecule is None:
            raise UnreadableError(f"not a valid SMILES: {text[:80]!r}")
        if self.stereo:
            try:
                rdCIPLabeler.AssignCIPLabels(molecule, maxRecursiveIterations=_CIP_STEPS)
            except RuntimeError as error:  # too symmetric for the steps allowed
                raise UnreadableError(
                    f"the stereo centres of the SMILES {text[:80]!r} can't be labelled: "
                    f"{' '.join(str(error).split())[:80]}"
                ) from None
        return Chem.AddHs(molecule) if self.hydrogens else molecule

    def _bond_kind(self, bond: Any) -> int:
        if self.stereo and _label(bond) in DOUBLE_BONDS:
            return BOND_KINDS + DOUBLE_BONDS.index(_label(bond))
        return _place(str(bond.GetBondType()), BONDS)

    def _nodes(self, atoms: list[Any]) -> np.ndarray:
        centres = [_place(_label(atom), CENTRES) if self.stereo else 0 for atom in atoms]
        if self.atoms == "elements":
            elements = [_place(atom.GetSymbol(), ELEMENTS) for atom in atoms]
            return np.array(elements, np.int64) + ATOM_KINDS * np.array(centres, np.int64)
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
        more = [features]
        if self.stereo:
            more.append(np.eye(len(CENTRES) + 1, dtype=np.float32)[centres])
        if self.isotopes:
            masses = [_isotope(atom) for atom in atoms]
            more.append(np.array(masses, dtype=np.float32)[:, None])
        return np.concatenate(more, axis=1)


def _label(part: Any) -> str:
    """Return the label of Cahn, Ingold and Prelog that an atom or bond has."""
    return str(part.GetProp("_CIPCode")) if part.HasProp("_CIPCode") else "none"


def _isotope(atom: Any) -> int:
    if not atom.GetIsotope():
        return 0
    return int(atom.GetIsotope() - Chem.GetPeriodicTable().GetMostCommonIsotope(atom.GetSymbol()))


def _place(item: Any, known: tuple[Any, ...]) -> int:
    return known.index(item) if item in known else len(known)
