"""A table as a device: figures again with noise of the sizes stated, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest

from hil.core.errors import ConfigError
from hil.device.config import ReplayDevice, find_device, load_device
from hil.device.recorded import Recording, data_path, read_columns
from hil.device.replay_config import RecordedTable, ReplayNoise

DEVICE = """\
schema: hil/device@1
name: recorded
driver: replay
board: jetson-tx2
replay:
  table:
    file: t.npz
    choices: ops
    figures: {energy_mj: e, latency_p50_ms: l}
    rail: VDD_IN
"""


def table(**more) -> RecordedTable:
    figures = more.pop("figures", {"energy_mj": "e", "latency_p50_ms": "l"})
    file = more.pop("file")
    return RecordedTable(file=str(file), choices="ops", figures=figures, **more)


@pytest.fixture
def file(tmp_path):
    ops = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int8)
    path = tmp_path / "t.npz"
    np.savez(path, ops=ops, e=np.array([10.0, 20, 30, 40]), l=np.array([1.0, 2, 3, 4]))
    return path


def test_without_noise_a_measurement_is_the_record(file):
    recording = Recording.open(table(file=file, noise=ReplayNoise(measurement=0.0, build=0.0)))

    read = recording.measure((1, 0), seed=0, stage="search", build=0)

    assert read["energy_mj"].value == 30.0
    assert read["energy_mj"].low == read["energy_mj"].high == 30.0
    assert read["latency_p50_ms"].value == 3.0


def test_noise_has_the_sizes_stated_and_the_record_in_its_middle(file):
    noise = ReplayNoise(measurement=0.03, build=0.04)
    recording = Recording.open(table(file=file, noise=noise))

    reads = [recording.measure((0, 1), seed=s, stage="confirm", build=1) for s in range(4000)]
    logs = np.log([r["energy_mj"].value for r in reads])

    assert abs(logs.mean() - np.log(20.0)) < 0.003
    assert logs.std() == pytest.approx(0.05, rel=0.05)  # the two add in quadrature: 3, 4, 5
    # The interval shown is that of the measurement alone: builds are for replication to show.
    assert np.log(reads[0]["energy_mj"].high / reads[0]["energy_mj"].value) == pytest.approx(
        1.96 * 0.03, rel=1e-3
    )


def test_a_figure_depends_on_seed_network_stage_and_build_alone(file):
    recording = Recording.open(table(file=file))

    def value(choices=(0, 1), seed=0, stage="search", build=0):
        return recording.measure(choices, seed=seed, stage=stage, build=build)["energy_mj"].value

    assert value() == value()
    assert len({value(), value(seed=1), value(stage="confirm"), value(build=1)}) == 4
    assert (
        Recording.open(table(file=file, noise=ReplayNoise(seed=1)))
        .measure((0, 1), seed=0, stage="search", build=0)["energy_mj"]
        .value
        != value()
    )


def test_memory_is_counted_and_has_no_noise(file):
    recording = Recording.open(table(file=file, figures={"energy_mj": "e", "memory_mib": "l"}))

    read = recording.measure((1, 1), seed=5, stage="search", build=0)

    assert read["memory_mib"].value == 4.0


def test_a_network_that_is_not_recorded_is_refused(file):
    with pytest.raises(ConfigError, match="holds no network"):
        Recording.open(table(file=file)).measure((2, 2), seed=0, stage="search", build=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"e": np.array([1.0, -2, 3, 4])}, "1 figures that are none"),
        ({"e": np.array([1.0, np.nan, np.inf, 4])}, "2 figures that are none"),
        ({"ops": np.zeros((4, 2), dtype=np.int8)}, "names a network twice"),
        ({"l": np.array([1.0])}, "differ in length"),
    ],
)
def test_a_table_that_cannot_be_right_is_refused(file, tmp_path, change, said):
    with np.load(file) as good:
        columns = {**good, **change}
    np.savez(tmp_path / "bad.npz", **columns)

    with pytest.raises(ConfigError, match=said):
        Recording.open(table(file=tmp_path / "bad.npz"))


def test_a_column_or_file_that_is_missing_is_named_with_what_there_is(file, tmp_path):
    with pytest.raises(ConfigError, match="no column missing") as caught:
        read_columns(str(file), ["e", "missing"])
    assert "e, l, ops" in str(caught.value.why)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_columns(str(tmp_path / "none.npz"), ["e"])
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, e=np.array([object()]))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_columns(str(pickled), ["e"])


def test_a_path_is_beside_its_file_or_in_the_folder_of_real_data(tmp_path, monkeypatch):
    (tmp_path / "d.yaml").write_text(DEVICE, encoding="utf-8")
    device = load_device(tmp_path / "d.yaml")
    assert isinstance(device, ReplayDevice)
    assert device.replay.table is not None
    assert device.replay.table.file == str(tmp_path / "t.npz")

    monkeypatch.setenv("HIL_DATA", "/data")
    shipped = find_device("replay-nb201", cwd=tmp_path)
    assert isinstance(shipped, ReplayDevice)
    assert shipped.replay.table is not None
    assert str(data_path(shipped.replay.table.file)) == "/data/nb201_tx2/nb201_tx2_cifar10.npz"
    assert (shipped.replay.table.noise.measurement, shipped.replay.table.noise.build) == (
        0.017,
        0.02,
    )


@pytest.mark.parametrize("replay", ["{}", "{evidence: x, table: {file: a, choices: b}}"])
def test_a_device_replays_exactly_one_record(tmp_path, replay):
    text = DEVICE.partition("replay:\n")[0] + f"replay: {replay}\n"
    (tmp_path / "d.yaml").write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError):
        load_device(tmp_path / "d.yaml")
