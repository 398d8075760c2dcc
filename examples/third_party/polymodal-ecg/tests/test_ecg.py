import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from polymodal import Layout, UnreadableError
from polymodal.testing import (
    EncoderSuite,
    ObjectiveSuite,
    ReaderSuite,
    SourceSuite,
    TokenizerSuite,
)

from polymodal_ecg.beats import Beats, r_peaks
from polymodal_ecg.hidden_beats import averaged
from polymodal_ecg.recording import Recording
from polymodal_ecg.rhythms import Rhythms


class TestRecordingKeepsTheRules(ReaderSuite):
    component = "ecg.recording"


class TestBeatsKeepTheRules(TokenizerSuite):
    component = "ecg.beats"


class TestBeatEncoderKeepsTheRules(EncoderSuite):
    component = "ecg.beats"


class TestHiddenBeatsKeepTheRules(ObjectiveSuite):
    component = "ecg.hidden_beats"


class TestRhythmsKeepTheRules(SourceSuite):
    component = "ecg.rhythms"


def test_beats_are_found_where_they_were_put():
    time = np.arange(500) / 100
    signal = sum(np.exp(-np.square((time - beat) / 0.02)) for beat in (0.5, 1.4, 2.2, 3.1))
    found = r_peaks(signal[None].astype(np.float32), rate=100)
    assert np.abs(found - [50, 140, 220, 310]).max() <= 3


@pytest.mark.parametrize("index", range(6))
def test_the_beats_of_a_made_up_recording_are_as_many_as_its_text_says(index):
    row = Rhythms(seconds=60.0).row(index)
    told = int(row["text"].split(", ")[1].split()[0])
    found = len(r_peaks(row["ecg"], rate=100))
    assert abs(found - told) <= 0.05 * told


def test_a_recording_without_beats_has_no_tokens():
    assert Beats().encode([np.zeros((1, 400), np.float32)]).layout.lengths == (0,)


def test_a_recording_with_other_leads_is_refused():
    with pytest.raises(UnreadableError, match="wants leads: 1"):
        Beats().check(np.zeros((12, 1000), np.float32))


def test_a_file_holds_what_was_saved(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(4.0))
    assert Recording()(tmp_path / "one.npy").tolist() == [[0, 1, 2, 3]]


def test_hidden_tokens_stand_behind_the_mean_of_the_visible_ones_of_their_recording():
    values = torch.tensor([[1.0], [3.0], [99.0], [7.0], [99.0]])
    hidden = torch.tensor([False, False, True, False, True])
    found = averaged(values, hidden, Layout.of([3, 2]))
    assert found[:, 0].tolist() == [1, 3, 2, 7, 7]


def test_the_example_trains(tmp_path):
    example = Path(__file__).parents[1] / "example.yaml"
    command = [sys.executable, "-m", "polymodal", "train", str(example), "trainer.max_steps=2"]
    subprocess.run([*command, "--out", str(tmp_path / "run")], check=True)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
