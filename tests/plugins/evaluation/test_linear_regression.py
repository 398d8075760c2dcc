import numpy as np
import pytest
from fake_probe import FakeProbe
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from polymodal import DataError
from polymodal_evaluation.linear_regression import PENALTIES, LinearRegression


def probe_of_lines(*, noise=0.5):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 4)).astype(np.float32)
    values = vectors @ [1.0, -2.0, 0.5, 0.0] + 3 + noise * rng.normal(size=80)
    probe = FakeProbe().add("graph", "train", vectors[:50], mass=values[:50].tolist())
    return probe.add("graph", "validation", vectors[50:], mass=values[50:].tolist())


def test_r2_and_rmse_agree_with_scikit_learn():
    probe = probe_of_lines()
    train, held = probe.splits["graph", "train"], probe.splits["graph", "validation"]
    scaler = StandardScaler().fit(train.vectors.astype(float))
    model = RidgeCV(alphas=PENALTIES)
    model.fit(scaler.transform(train.vectors.astype(float)), train.fields["mass"])
    answers = model.predict(scaler.transform(held.vectors.astype(float)))
    truth = np.array(held.fields["mass"])
    (r2,) = LinearRegression("graph", "molecules", "mass").run(probe)
    (rmse,) = LinearRegression("graph", "molecules", "mass", metric="rmse").run(probe)
    assert r2.value == pytest.approx(r2_score(truth, answers))
    assert rmse.value == pytest.approx(np.sqrt(np.mean((answers - truth) ** 2)))
    assert (r2.chance, r2.higher_is_better, r2.samples) == (0.0, True, 30)
    assert rmse.chance == pytest.approx(truth.std())
    assert not rmse.higher_is_better


def test_folds_score_every_row_once_and_the_same_each_time():
    evaluation = LinearRegression("graph", "molecules", "mass", folds=4)
    (score,) = evaluation.run(probe_of_lines(noise=0.01))
    assert score.samples == 80
    assert score.value > 0.99
    assert [score] == evaluation.run(probe_of_lines(noise=0.01))


def test_vectors_that_are_all_alike_score_no_better_than_the_mean():
    probe = FakeProbe().add("graph", "train", np.ones((6, 3)), mass=[1, 2, 3, 4, 5, 6])
    probe.add("graph", "validation", np.ones((2, 3)), mass=["3", None])
    (score,) = LinearRegression("graph", "molecules", "mass", metric="rmse").run(probe)
    assert score.value == pytest.approx(0.5)
    assert score.samples == 1


@pytest.mark.parametrize(
    ("train", "held", "message"),
    [
        ([1, 2], [5, 5], "all 2 scored rows have 5.0"),
        ([1, None], [5, 6], "two rows to fit on, got 1"),
        ([1, "heavy"], [5, 6], "must hold finite numbers, got 'heavy'"),
        ([1, float("inf")], [5, 6], "must hold finite numbers, got inf"),
    ],
)
def test_what_cannot_be_regressed_is_one_clear_line(train, held, message):
    probe = FakeProbe().add("graph", "train", [[0.0], [1.0]], mass=train)
    probe.add("graph", "validation", [[0.0], [1.0]], mass=held)
    with pytest.raises(DataError, match=message):
        LinearRegression("graph", "molecules", "mass").run(probe)
