from polymodal_supervised.classification import Names


def test_whole_numbers_with_gaps_are_the_classes_they_were():
    for classes in (["0", "1"], ["0.0", "1.0"]):
        names = Names(classes)
        assert names.numbers({0: 0.0, 3: 1.0}, field="label") == [0, 1]
    assert Names(["0", "1"]).numbers({0: 1, 1: "0", 2: 1.0}, field="label") == [1, 0, 1]
    learned = Names(2)
    assert len(set(learned.numbers({0: 0, 1: 0.0, 2: "0"}, field="label"))) == 1
