import pytest
from safetensors import SafetensorError

from polymodal import DataError
from polymodal.ground.durable import beside, replacing, write_text


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        SafetensorError('I/O error: Os { message: "No space left on device" }'),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0: No space"),
    ],
)
def test_a_full_disk_is_one_line_and_what_was_there_before_is_kept(tmp_path, error):
    file = tmp_path / "vectors.parquet"
    write_text(file, "before")

    def write():
        with replacing(file) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(DataError, match="vectors.parquet can't be written: .*No space") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert file.read_text() == "before" and not beside(file).exists()


def test_a_mistake_in_what_is_written_is_not_called_a_full_disk(tmp_path):
    def write():
        with replacing(tmp_path / "file"):
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        write()
