import numpy as np
import pytest
from fake_probe import FakeProbe, blobs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from polymodal import DataError, Need
from polymodal_evaluation.linear_probe import LinearProbe, chance_level, mean_area


def probe_of_blobs(**options):
    train, train_labels = blobs(60, seed=1, **options)
    held, held_labels = blobs(31, seed=2, **options)
    probe = FakeProbe().add("image", "train", train, label=train_labels)
    return probe.add("image", "validation", held, label=held_labels)


def reference(probe):
    train, held = probe.splits["image", "train"], probe.splits["image", "validation"]
    scaler = StandardScaler().fit(train.vectors.astype(float))
    model = LogisticRegression(max_iter=5000)
    model.fit(scaler.transform(train.vectors.astype(float)), train.fields["label"])
    return model, scaler.transform(held.vectors.astype(float)), np.array(held.fields["label"])


def test_accuracy_agrees_with_scikit_learn_and_chance_is_the_majority_share():
    probe = probe_of_blobs()
    model, held, truth = reference(probe)
    (score,) = LinearProbe("image", "digits", "label").run(probe)
    assert score.metric == "accuracy"
    assert score.value == pytest.approx(model.score(held, truth))
    assert score.chance == pytest.approx(11 / 31)
    assert score.samples == 31
    assert score.higher_is_better
    assert 0.5 < score.value < 1


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_agrees_with_scikit_learn_for_two_and_more_classes(classes):
    probe = probe_of_blobs(classes=classes, spread=2.0)
    model, held, truth = reference(probe)
    likelihood = model.predict_proba(held)
    if classes == 2:
        wanted = roc_auc_score(truth, likelihood[:, 1])
    else:
        wanted = roc_auc_score(truth, likelihood, multi_class="ovr")
    (score,) = LinearProbe("image", "digits", "label", metric="auc").run(probe)
    assert score.value == pytest.approx(wanted, abs=1e-3)
    assert score.chance == 0.5


def test_macro_f1_agrees_with_scikit_learn_and_its_chance_is_that_of_the_majority_answer():
    probe = probe_of_blobs()
    model, held, truth = reference(probe)
    (score,) = LinearProbe("image", "digits", "label", metric="macro_f1").run(probe)
    assert score.value == pytest.approx(f1_score(truth, model.predict(held), average="macro"))
    majority = f1_score(truth, np.zeros_like(truth), average="macro", zero_division=0)
    assert score.chance == pytest.approx(majority)
    assert chance_level("macro_f1", np.array(["a", "a", "a", "b"])) == pytest.approx(3 / 7)


def test_rows_without_a_label_are_left_out_and_one_and_text_one_are_one_class():
    probe = FakeProbe().add("image", "train", [[0], [1], [0], [1], [9]], label=[0, 1, 0, 1, None])
    probe.add("image", "validation", [[0], [1], [5], [5]], label=["0", "1", "", float("nan")])
    (score,) = LinearProbe("image", "digits", "label").run(probe)
    assert (score.value, score.samples) == (1.0, 2)


def test_a_class_never_fitted_is_wrong_and_ranks_by_nothing():
    probe = FakeProbe().add("image", "train", [[0], [1], [0], [1]], label=["a", "b", "a", "b"])
    probe.add("image", "validation", [[0], [1], [1]], label=["a", "b", "c"])
    (score,) = LinearProbe("image", "digits", "label").run(probe)
    assert score.value == pytest.approx(2 / 3)
    area = mean_area(np.array(["a", "c"]), np.array(["a", "b"]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert area == pytest.approx((1.0 + 0.5) / 2)


def test_folds_join_all_splits_and_score_each_row_once():
    vectors, labels = blobs(45)
    probe = FakeProbe().add("image", "train", vectors[:30], label=labels[:30])
    probe.add("image", "test", vectors[30:], label=labels[30:])
    (score,) = LinearProbe("image", "digits", "label", folds=5).run(probe)
    assert score.samples == 45
    assert score.value > 0.6
    assert [score] == LinearProbe("image", "digits", "label", folds=5).run(probe)


def test_groups_stay_whole_so_what_only_names_the_group_teaches_nothing():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 6)
    label = rng.permutation(np.arange(12) % 2)[group]
    vectors = np.eye(12)[group]  # names the group and nothing else
    probe = FakeProbe().add("image", "train", vectors, label=label, speaker=group)
    (leaking,) = LinearProbe("image", "digits", "label", folds=4).run(probe)
    (held,) = LinearProbe("image", "digits", "label", folds=4, group="speaker").run(probe)
    assert leaking.value == 1.0
    assert held.value <= 0.7


def test_cross_validated_auc_is_the_mean_over_folds():
    vectors, labels = blobs(40, classes=2)
    probe = FakeProbe().add("image", "train", vectors, label=labels)
    (score,) = LinearProbe("image", "digits", "label", metric="auc", folds=4).run(probe)
    assert 0.7 < score.value <= 1
    assert score.samples == 40


def test_a_rare_class_goes_through_folds_without_a_warning():
    vectors, labels = blobs(20, classes=2)
    probe = FakeProbe().add("image", "train", vectors, label=["rare", *labels[1:]])
    (score,) = LinearProbe("image", "digits", "label", folds=3).run(probe)
    assert score.samples == 20


def test_a_solver_cut_short_gives_its_answer_without_a_warning():
    (score,) = LinearProbe("image", "digits", "label", max_iterations=1).run(probe_of_blobs())
    assert 0 <= score.value <= 1


@pytest.mark.parametrize(
    ("train", "held", "options", "message"),
    [
        (["a", "a"], ["a", "b"], {}, "train rows have only 'a'"),
        (["a", "b"], ["b", "b"], {}, "validation rows have only 'b'"),
        (["a", "b"], [None, ""], {}, "no validation row of source 'digits' has both"),
        (["a", "b"], ["a", "b"], {"folds": 5}, "4 rows can't be cut into 5 folds"),
        (["a", "a"], ["a", "a"], {"folds": 2}, "rows have only 'a'"),
        (["a", "b"], [["a"], "b"], {}, "single label a row"),
    ],
)
def test_what_cannot_be_probed_is_one_clear_line(train, held, options, message):
    probe = FakeProbe().add("image", "train", [[0.0], [1.0]], label=train)
    probe.add("image", "validation", [[0.0], [1.0]], label=held)
    with pytest.raises(DataError, match=message) as caught:
        LinearProbe("image", "digits", "label", **options).run(probe)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_a_missing_split_and_a_diverged_model_are_told():
    probe = FakeProbe().add("image", "train", [[0.0], [np.nan]], label=[0, 1])
    with pytest.raises(DataError, match=r"no field 'lable'.* Did you mean 'label'"):
        LinearProbe("image", "digits", "lable").run(probe)
    with pytest.raises(DataError, match="1 of 2 vectors of stream 'image' are not finite"):
        LinearProbe("image", "digits", "label").run(probe)
    with pytest.raises(DataError, match="no train rows"):
        LinearProbe("sound", "digits", "label", folds=2).run(probe)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="folds must be at least 2"):
        LinearProbe("image", "digits", "label", folds=1)
    with pytest.raises(ValueError, match="set folds too"):
        LinearProbe("image", "digits", "label", group="speaker")
    with pytest.raises(ValueError, match="penalty_inverse"):
        LinearProbe("image", "digits", "label", penalty_inverse=0)


def test_it_asks_for_the_projection_and_splits_named():
    probe = FakeProbe().add("image", "validation", [[0], [1]], label=[0, 1])
    probe.add("image", "test", [[0], [1]], label=[0, 1])
    options = {"objective": "clip", "fit_on": "validation", "split": "test"}
    evaluation = LinearProbe("image", "digits", "label", **options)
    evaluation.run(probe)
    assert probe.asked == [
        ("image", "digits", "validation", "clip"),
        ("image", "digits", "test", "clip"),
    ]
    assert evaluation.needs() == {"image": Need()}


def test_the_split_of_a_row_can_stand_in_a_field():
    apart = probe_of_blobs()
    one, two = apart.splits["image", "train"], apart.splits["image", "validation"]
    homes = ["train"] * 60 + ["validation"] * 31
    joint = FakeProbe().add(
        "image", "train", np.concatenate([one.vectors, two.vectors]), home=homes,
        label=[*one.fields["label"], *two.fields["label"]],
    )  # fmt: skip
    (wanted,) = LinearProbe("image", "digits", "label").run(apart)
    (found,) = LinearProbe("image", "digits", "label", split_by="home").run(joint)
    assert found == wanted


def test_a_few_shots_of_each_class_are_fitted_and_the_others_scored():
    vectors, labels = blobs(90, spread=0.01)
    probe = FakeProbe().add("image", "train", vectors, label=labels)
    (score,) = LinearProbe("image", "digits", "label", shots=1, draws=3).run(probe)
    assert score.value == pytest.approx(1) and score.samples == 90
    noisy, labels = blobs(90, spread=1.5)
    probe = FakeProbe().add("image", "train", noisy, label=labels)
    few, many = (
        LinearProbe("image", "digits", "label", shots=shots).run(probe)[0].value
        for shots in (1, 25)
    )
    assert few < many < 1
    with pytest.raises(DataError, match="30 rows: 30 to fit on leave none"):
        LinearProbe("image", "digits", "label", shots=30).run(probe)
    with pytest.raises(ValueError, match="not both"):
        LinearProbe("image", "digits", "label", shots=3, folds=2)
