import numpy as np
import pytest

from polymodal import UnreadableError

pytest.importorskip("rdkit")

from polymodal_graph.smiles import ATOM_FEATURES, ATOM_KINDS, BOND_KINDS, ELEMENTS, SmilesReader


def test_bonds_are_two_edges_of_their_kind():
    graph = SmilesReader()("C=CC#N ")  # a space after, as files have it
    assert graph.edges.T.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2]]
    assert graph.edge_kinds.tolist() == [1, 1, 0, 0, 2, 2]
    assert SmilesReader()("c1ccccc1").edge_kinds.tolist() == [3] * 12
    assert max(SmilesReader()("[NH3]->[Fe]").edge_kinds) == BOND_KINDS - 1


def test_atoms_are_one_hot_in_each_group():
    graph = SmilesReader()("C[NH3+]")
    assert graph.nodes.shape == (2, ATOM_FEATURES)
    assert graph.nodes.sum(axis=1).tolist() == [5, 5]
    element = len(ELEMENTS) + 1
    assert graph.nodes[1].nonzero()[0].tolist() == [
        ELEMENTS.index("N"),
        element + 4,  # four neighbours, hydrogens too
        element + 8 + 3,  # charge +1
        element + 8 + 6 + 3,  # three hydrogens
        element + 8 + 6 + 6 + 3,  # SP3
    ]
    ring = SmilesReader()("c1ccccc1").nodes
    assert (ring[:, -2:] == 1).all()


def test_elements_are_ids_and_the_unknown_has_its_own():
    graph = SmilesReader(atoms="elements")("*O")
    assert graph.nodes.tolist() == [ATOM_KINDS - 1, ELEMENTS.index("O")]
    assert graph.nodes.dtype == np.int64


def test_hydrogens_become_nodes_on_request():
    assert len(SmilesReader(hydrogens=True)("C").nodes) == 5


def test_a_single_atom_has_no_edges():
    graph = SmilesReader()("[Na+]")
    assert graph.edges.shape == (2, 0)
    assert graph.edge_kinds.shape == (0,)


@pytest.mark.parametrize(
    "value",
    ["C1CC", "not a molecule", "", "  ", None, 3, "C(C)(C)(C)(C)C", "C\ud800", "C\0C", "CCO\nCCN"],
)
def test_a_bad_smiles_is_refused_in_silence(value, capfd):
    with pytest.raises(UnreadableError, match="SMILES"):
        SmilesReader()(value)
    assert capfd.readouterr().err == ""


def graphs(smiles, **options):
    return [SmilesReader(**options)(each) for each in smiles]


def same(a, b):
    return (
        np.array_equal(a.nodes, b.nodes)
        and np.array_equal(a.edges, b.edges)
        and np.array_equal(a.edge_kinds, b.edge_kinds)
    )


@pytest.mark.parametrize("atoms", ["features", "elements"])
def test_mirror_images_and_cis_trans_isomers_differ_on_request(atoms):
    for pair in (("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"), ("F/C=C/F", "F/C=C\\F")):
        assert same(*graphs(pair))
        assert not same(*graphs(pair, atoms=atoms, stereo=True))


def test_stereo_labels_do_not_depend_on_how_a_molecule_is_written():
    alanines = ("C[C@H](N)C(=O)O", "N[C@@H](C)C(=O)O", "OC(=O)[C@@H](N)C")  # all S
    for graph in graphs(alanines, stereo=True):
        assert graph.nodes.shape == (6, ATOM_FEATURES + 4)
        assert graph.nodes[:, ATOM_FEATURES:].sum(axis=0).tolist() == [5, 0, 1, 0]
    trans, cis, unknown = graphs(("F/C=C/F", "F/C=C\\F", "FC=CF"), stereo=True)
    assert trans.edge_kinds.tolist() == [0, 0, BOND_KINDS + 1, BOND_KINDS + 1, 0, 0]
    assert cis.edge_kinds.tolist() == [0, 0, BOND_KINDS, BOND_KINDS, 0, 0]
    assert unknown.edge_kinds.tolist() == [0, 0, 1, 1, 0, 0]


def test_isotopes_are_told_by_their_mass_on_request():
    plain, heavy, light = graphs(("C", "[13CH4]", "[12CH4]"), isotopes=True)
    assert [graph.nodes[0, -1] for graph in (plain, heavy, light)] == [0, 1, 0]
    assert same(*graphs(("C", "[13CH4]")))
    with pytest.raises(ValueError, match="isotopes"):
        SmilesReader(atoms="elements", isotopes=True)


def test_what_stands_behind_a_blank_is_a_name():
    assert same(*graphs(("CCO", "CCO\tethanol")))
