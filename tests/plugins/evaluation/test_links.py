import numpy as np
import pytest
from fake_probe import FakeProbe
from sklearn.metrics import average_precision_score, roc_auc_score

from polymodal import DataError
from polymodal_evaluation.links import Links, random_pairs

GROUPS = np.arange(40) % 4  # tokens of one group are joined, others are not


def pairs_of_groups(generator, count=60):
    first = generator.integers(0, 40, count)
    return np.stack([first, (first + 4 * generator.integers(1, 10, count)) % 40])


def graph(*, noise=0.1, samples=1):
    generator = np.random.default_rng(0)
    vectors, rows, fields = [], [], {"held": [], "rest": []}
    for row in range(samples):
        vectors.append(np.eye(4)[GROUPS] + noise * generator.normal(size=(40, 4)))
        rows += [row] * 40
        for name in fields:
            fields[name] += [pairs_of_groups(generator)] * 40
    return FakeProbe().add("graph", "train", np.concatenate(vectors), rows=rows, **fields)


@pytest.mark.parametrize("scorer", ["dot", "linear", "mlp"])
@pytest.mark.parametrize("samples", [1, 3])
def test_pairs_of_one_group_are_told_from_others(scorer, samples):
    task = Links("graph", "g", "held", fit_on="rest", scorer=scorer)
    auc, ap = task.run(graph(samples=samples))
    assert (auc.metric, ap.metric, auc.chance, ap.chance) == ("auc", "ap", 0.5, 0.5)
    # A random pair is of one group in a quarter of cases: no scorer can tell it from a true one.
    assert 0.8 < auc.value < 1 and ap.value > 0.75
    assert auc.samples == samples * 120
    blind, _ = task.run(graph(noise=100.0, samples=samples))
    assert abs(blind.value - 0.5) < 0.12


def test_a_solver_cut_short_is_no_warning():
    for scorer in ("linear", "mlp"):
        Links("graph", "g", "held", fit_on="rest", scorer=scorer, max_iterations=1).run(graph())


def test_the_dot_product_is_scored_as_by_scikit_learn_and_follows_the_seed_alone():
    probe = graph(noise=0.5)
    features = probe.splits["graph", "train"]
    true = features.fields["held"][0]
    false = random_pairs(60, 40, true, np.random.default_rng(0))
    both = np.concatenate([true, false], axis=1)
    vectors = features.vectors.astype(float)
    likelihood = (vectors[both[0]] * vectors[both[1]]).sum(axis=1)
    truth = np.arange(120) < 60
    auc, ap = Links("graph", "g", "held", scorer="dot").run(probe)
    assert auc.value == pytest.approx(roc_auc_score(truth, likelihood))
    assert ap.value == pytest.approx(average_precision_score(truth, likelihood))


def test_random_pairs_are_no_known_ones_in_either_direction_and_no_loops():
    known = np.array([[0, 2], [1, 0]])
    drawn = random_pairs(200, 4, known, np.random.default_rng(0))
    assert drawn.shape == (2, 200)
    found = {tuple(sorted(pair)) for pair in drawn.T.tolist()}
    assert found == {(0, 3), (1, 2), (1, 3), (2, 3)}
    every = np.array([[0, 0, 1], [1, 2, 2]])
    assert random_pairs(5, 3, every, np.random.default_rng(0)).shape == (2, 0)
    assert random_pairs(0, 0, every[:, :0], np.random.default_rng(0)).shape == (2, 0)


def test_what_is_no_pair_is_refused():
    with pytest.raises(ValueError, match="fit_on"):
        Links("graph", "g", "held")
    probe = graph()
    probe.splits["graph", "train"].fields["held"][:] = [np.array([[0], [40]])] * 40
    with pytest.raises(DataError, match="outside the sample's 40 tokens"):
        Links("graph", "g", "held", scorer="dot").run(probe)
    probe.splits["graph", "train"].fields["held"][:] = [np.zeros((2, 0), int)] * 40
    with pytest.raises(DataError, match="no pairs in the field 'held'"):
        Links("graph", "g", "held", scorer="dot").run(probe)
    with pytest.raises(DataError, match="no field 'heldd'"):
        Links("graph", "g", "heldd", scorer="dot").run(probe)
    probe.splits["graph", "train"].fields["held"][:] = [np.zeros((3, 2))] * 40
    with pytest.raises(DataError, match=r"whole numbers \[2, pair\]"):
        Links("graph", "g", "held", scorer="dot").run(probe)
