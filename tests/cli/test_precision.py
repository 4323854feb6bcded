"""INT8 from the command line: data for its scales, boards without it, what results say of it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest

from hil.cli.calibrating import MOST_SAMPLES, PrecisionWish, read_calibration
from hil.cli.keeping import keeper
from hil.cli.network import read_network, read_networks
from hil.cli.profile_work import Wishes, Work
from hil.core.errors import ConfigError, ExportError
from hil.device.config import find_device
from hil.net.quantise import Calibration, is_quantised, scales
from hil.net.sample import sample_network


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/hil/int8"


@pytest.fixture
def model(tmp_path):
    (tmp_path / "net.onnx").write_bytes(sample_network())
    return tmp_path / "net.onnx"


def pictures(count):
    value = onnx.load_from_string(sample_network()).graph.input[0]
    sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    return value.name, np.random.default_rng(0).random((count, *sizes), "float32")


@pytest.fixture
def data(tmp_path):
    name, values = pictures(16)
    np.savez(tmp_path / "data.npz", **{name: values}, labels=np.arange(16))
    return str(tmp_path / "data.npz")


def device(name):
    return find_device(name, cwd=Path("/"))


def test_int8_is_made_of_the_network_and_the_data_and_kept(model, data, cache):
    xavier, wish = device("xavier-nx"), PrecisionWish(("int8",), data)

    network = read_network(model, xavier, wish=wish)

    name, values = pictures(16)
    assert network.at("fp16") == sample_network()
    found = scales(network.at("int8"))
    assert found[name] == pytest.approx(np.abs(values).max() / 127, rel=0.01)
    (kept,) = cache.iterdir()
    assert kept.name == Calibration({name: values}).key(sample_network())
    told = network.quantisation("int8")
    assert (told["method"], told["samples"], told["sha256"]) == ("minmax", 16, kept.name)
    assert network.quantisation("fp16") is None
    both = read_networks((model, model), xavier, (), None, wish)
    assert [each.at("int8") for each in both] == [network.at("int8")] * 2


def test_a_network_that_is_quantised_already_needs_no_data(model, data, tmp_path):
    xavier = device("xavier-nx")
    made = read_network(model, xavier, wish=PrecisionWish(("int8",), data)).at("int8")
    (tmp_path / "qdq.onnx").write_bytes(made)

    assert (
        read_network(tmp_path / "qdq.onnx", xavier, wish=PrecisionWish(("int8",))).at("int8")
        == made
    )
    with pytest.raises(ConfigError, match="fp16 is asked for") as refusal:
        read_network(tmp_path / "qdq.onnx", xavier)
    assert "--precision int8" in refusal.value.fix
    with pytest.raises(ExportError, match="no int8"):
        read_network(tmp_path / "qdq.onnx", device("tx2"))


@pytest.mark.parametrize("name", ["tx2", "tx2-emulated", "nano"])
def test_boards_without_int8_say_what_why_and_what_instead(model, data, name):
    with pytest.raises(ExportError) as refusal:
        read_network(model, device(name), wish=PrecisionWish((None, "int8"), data))

    assert refusal.value.what.endswith("has no int8")
    assert "DP4A" in refusal.value.why
    assert "fp16" in refusal.value.fix
    assert refusal.value.exit_code == 6


def test_int8_without_data_is_refused_with_where_to_get_it(model):
    with pytest.raises(ConfigError) as refusal:
        read_network(model, device("orin-nano"), wish=PrecisionWish(("int8",)))

    assert "--calibrate" in refusal.value.fix


def test_data_is_taken_from_a_profiles_function_its_training_part_alone():
    from hil.tasks.data import load_data

    wish = PrecisionWish(("int8",), "hil.tasks.digits:load")

    found = read_calibration(wish, ["input"]).samples["input"]

    train = load_data("hil.tasks.digits:load").train
    assert len(found) == MOST_SAMPLES < len(train)
    known = {picture.tobytes() for picture in train.inputs}
    assert all(picture.tobytes() in known for picture in found)


def test_data_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for source in ("text.npz", "absent.npz", "objects.npy"):
        with pytest.raises(ConfigError, match=source):
            read_calibration(PrecisionWish(("int8",), str(tmp_path / source)), ["x"])
    with pytest.raises(ConfigError, match="entropy"):
        read_calibration(PrecisionWish(("int8",), "x.npz", "entropy"), ["x"])


def test_a_profile_ships_the_quantised_file_and_its_result_says_how_it_was_made(
    model, data, tmp_path, fake_session, desk_of
):
    board = fake_session()
    network = read_network(model, device("xavier-nx"), wish=PrecisionWish(("int8",), data))
    wishes = Wishes("int8", 4, None, (), 600.0, 5.0, None, layers=False, trtexec=False)
    kept = keeper("profile", "net", datetime(2026, 11, 28, tzinfo=UTC), keep=True, base=tmp_path)

    result = Work(desk_of(board), network, wishes, kept).one()

    assert result["precision"] == "int8"
    assert result["quantisation"]["method"] == "minmax"
    assert result["onnx_sha256"] == board.put_blob(network.at("int8"))
    assert result["onnx_sha256"] != result["quantisation"]["float_sha256"]


@pytest.mark.slow
def test_the_command_refuses_a_tx2_without_reaching_for_it(model, data, tmp_path, hil):
    words = ("profile", "net.onnx", "-d", "tx2", "--precision", "int8", "--calibrate", data)

    done = hil(*words, cwd=tmp_path)

    assert done.returncode == 6  # 3 would be a board that was looked for
    assert "no int8" in done.stderr
    assert "fp16" in done.stderr


@pytest.mark.slow
def test_check_and_export_know_int8(model, data, tmp_path, hil):
    note = hil(
        "check", "net.onnx", "-d", "orin-nano", "--precision", "int8", "--json", cwd=tmp_path
    )
    refusal = hil("check", "net.onnx", "-d", "tx2", "--precision", "int8", cwd=tmp_path)
    words = ("--onnx", "int8.onnx", "--precision", "int8", "--calibrate", data)
    export = hil("export", "net.onnx", *words, cwd=tmp_path)
    quantised = hil("check", "int8.onnx", "-d", "xavier-nx", "--precision", "int8", cwd=tmp_path)

    assert (note.returncode, refusal.returncode) == (0, 6), note.stderr
    assert any("--calibrate" in one["remedy"] for one in json.loads(note.stdout)["findings"])
    assert "INT8" in refusal.stderr
    assert export.returncode == 0, export.stderr
    assert is_quantised((tmp_path / "int8.onnx").read_bytes())
    assert (quantised.returncode, quantised.stdout) == (0, "")
