import pytest

from polymodal import DataError
from polymodal.config.reading import check_config
from polymodal.model.probing import ModelProbe
from polymodal.runs.build import Builder


@pytest.fixture
def probe(sensor_config, plugins):
    def make(objective):
        sensor_config["objectives"] = {"task": {**objective, "stream": "signal"}}
        sensor_config["data"]["sources"]["waves"]["broken"] = 3
        builder = Builder(check_config(sensor_config, plugins=plugins), plugins=plugins)
        model = builder.model()
        return ModelProbe(model, builder.readings, builder.sources, batch_size=5)

    return make


def test_predictions_come_with_the_rows_and_fields_they_are_of(probe):
    found = probe({"use": "supervised.classification", "label": "label", "classes": ["0", "1"]})
    told = found.predictions("task", source="waves", split="train")
    size = found.size("waves", "train")
    numbers = found.sources["waves"].rows_of("train")
    kept = [row for row in range(size) if numbers[row] != 3]  # one can't be read
    assert told.rows.tolist() == kept and set(told.values) <= {"0", "1"}
    assert told.fields["label"] == [int(numbers[row]) % 2 for row in kept]
    logits = found.features("signal", source="waves", split="train", objective="task").vectors
    assert told.values == [str(best) for best in logits.argmax(axis=1)]


def test_what_predicts_nothing_says_so(probe):
    with pytest.raises(DataError, match="MaskedTokens has no predictions to evaluate"):
        probe({"use": "masking.simmim"}).predictions("task", source="waves", split="train")
    counted = {"use": "supervised.classification", "label": "label", "classes": 2}
    with pytest.raises(DataError, match="classes must be named"):
        probe(counted).predictions("task", source="waves", split="train")
