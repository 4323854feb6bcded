"""Device files: what is accepted, and that every mistake is named by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core.errors import ConfigError
from hil.core.yamlfile import YamlFileError
from hil.device.config import (
    EmulatedDevice,
    LocalDevice,
    SshDevice,
    find_device,
    load_device,
    parse_host,
    with_host,
)
from hil.device.precisions import unquantised

ROOT = Path(__file__).parents[2]
GOOD = """\
schema: hil/device@1
name: bench
driver: ssh
board: jetson-tx2
ssh:
  host: 10.0.0.7
  user: nvidia
  identity: keys/id_ed25519
  known_hosts: known_hosts
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "bench.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    path = written(folder, text)
    with pytest.raises(YamlFileError) as caught:
        load_device(path)
    return [str(problem).replace(f"{path}:", "", 1) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("tx2", SshDevice), ("tx2-emulated", EmulatedDevice), ("local", LocalDevice)],
)
def test_every_shipped_device_loads(name, kind, tmp_path):
    device = find_device(name, cwd=tmp_path)

    assert isinstance(device, kind)
    assert device.name == name


def test_shipped_copies_equal_the_repository_s_files():
    for kind in ("devices", "profiles"):
        ours = {p.name: p.read_bytes() for p in (ROOT / kind).glob("*.yaml")}
        shipped = {p.name: p.read_bytes() for p in (ROOT / "hil" / "shipped" / kind).glob("*.yaml")}
        assert shipped == ours


def test_paths_are_relative_to_the_file_that_names_them(tmp_path):
    device = load_device(written(tmp_path, GOOD))

    assert isinstance(device, SshDevice)
    assert device.ssh.identity == tmp_path / "keys/id_ed25519"
    assert device.ssh.known_hosts == tmp_path / "known_hosts"


def test_all_mistakes_come_at_once_each_with_its_line_and_field(tmp_path):
    text = GOOD.replace("user: nvidia", "port: twenty-two") + "power:\n  sorce: none\nsped: 9\n"

    assert problems(tmp_path, text) == [
        "5: ssh.user: required, and not given",
        "7: ssh.port: expected an integer, got 'twenty-two'",
        "11: power.sorce: unknown field; did you mean source? "
        "known here: source, rail, interval_ms, command, where, also, sensor",
        "12: sped: unknown field; known here: schema, name, board, runtime, state, power, lease, "
        "driver, ssh, agent",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("host: 10.0.0.7", "host: 10", "6: ssh.host: expected text, got 10"),
        ("user: nvidia", "user: nvidia\n  port: 0", "8: ssh.port: expected greater than"),
        ("user: nvidia", "user: nvidia\n  port: '22'", "8: ssh.port: expected an integer, got"),
        ("name: bench", "name: my bench", "2: name: "),
        ("driver: ssh", "driver: usb", "3: driver: got 'usb'; expected one of ssh, local, emul"),
        ("driver: ssh\n", "", "1: driver: required; expected one of"),
        ("hil/device@1", "hil/device@9", "1: schema: expected 'hil/device@1', got 'hil/device@9'"),
        ("  host: 10.0.0.7", "  host: a\n  host: b", "7: ssh.host: given twice, first on line 6"),
        ("  known_hosts: known_hosts\n", "", "5: ssh: give exactly one of known_hosts"),
        ("  identity: keys/id_ed25519\n", "", "5: ssh: give identity"),
        ("board: jetson-tx2", "board: [1", "5: not YAML: "),
        ("board: jetson-tx2", "board: \t\x07", "4: special characters are not allowed"),
        ("board: jetson-tx2", "board: 2024-99-99", "4: board: month must be in 1..12"),
        ("board: jetson-tx2", "board: &a [*a]", "1: nested too deeply, or refers to itself"),
    ],
)
def test_one_mistake_gives_one_line(old, new, expected, tmp_path):
    assert old in GOOD

    found = problems(tmp_path, GOOD.replace(old, new))

    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_mistake_inside_the_jump_host_is_found_there(tmp_path):
    text = GOOD + "  jump:\n    host: gate\n    user: me\n    identity: k\n    host_key: 7\n"

    assert problems(tmp_path, text) == ["14: ssh.jump.host_key: expected text, got 7"]


def test_cuda_graphs_are_for_tensorrt(tmp_path):
    graphs = GOOD + "runtime:\n  name: {}\n  cuda_graph: true\n"

    assert load_device(written(tmp_path, graphs.format("tensorrt"))).runtime.cuda_graph
    assert problems(tmp_path, graphs.format("onnxruntime")) == [
        "10: runtime: cuda_graph: belongs to runtime tensorrt"
    ]


def test_int8_is_where_the_file_says_so_and_never_where_the_board_has_none(tmp_path):
    orin = GOOD.replace("jetson-tx2", "jetson-orin-nano") + "runtime:\n  {}\n"
    plain = load_device(written(tmp_path, orin.format("precision: fp16")))
    told = load_device(written(tmp_path, orin.format("precisions: [fp16, int8]")))
    default = load_device(written(tmp_path, orin.format("precision: int8")))

    assert plain.runtime.offered == ("fp16", "fp32")
    assert told.runtime.offered == ("fp16", "int8")
    assert (default.runtime.offered[-1], unquantised(default.runtime)) == ("int8", "fp16")
    (tx2,) = problems(tmp_path, GOOD + "runtime:\n  precisions: [fp16, int8]\n")
    assert "jetson-tx2 has no INT8" in tx2
    (other,) = problems(tmp_path, orin.format("precisions: [fp32]"))
    assert "add fp16" in other
    (host,) = problems(tmp_path, orin.format("name: onnxruntime\n  precision: int8"))
    assert "belongs to runtime tensorrt" in host


@pytest.mark.parametrize("name", ["xavier-nx", "orin-nano", "agx-orin"])
def test_shipped_boards_with_int8_offer_it(name, tmp_path):
    assert "int8" in find_device(name, cwd=tmp_path).runtime.offered


def test_power_without_a_rail_is_refused(tmp_path):
    text = GOOD + "power:\n  source: tegrastats\n"

    assert problems(tmp_path, text) == [
        "10: power: rail: required with a power source (the board's total rail)"
    ]


SOURCES = """\
power:
  source: ina3221
  rail: VDD_IN
  interval_ms: 20
  also:
    - {source: tegrastats, rail: VDD_IN}
    - {source: nvml}
    - {source: rapl, interval_ms: 50}
    - {source: command, command: [meter, --hz, "50"], where: host}
  sensor: {offset_ma: 4, gain: 0.0025, bus_mv: 19184}
"""


def test_sources_beside_the_first_keep_their_order_and_have_rails(tmp_path):
    power = load_device(written(tmp_path, GOOD + SOURCES)).power

    assert power.first.to_agent() == {"source": "ina3221", "rail": "VDD_IN"}
    assert [(one.source, one.rail, one.where) for one in power.also] == [
        ("tegrastats", "VDD_IN", "board"),
        ("nvml", "gpu", "board"),
        ("rapl", "package-0", "board"),
        ("command", "meter", "host"),
    ]
    assert power.also[2].to_agent()["interval_ms"] == 50
    assert power.also[3].to_agent()["command"] == ["meter", "--hz", "50"]
    assert power.on_host
    assert (power.sensor.offset_ma, power.sensor.bus_mv, power.sensor.tau_s) == (4, 19184, None)


def test_a_meter_s_program_may_be_the_first_source(tmp_path):
    text = GOOD + "power:\n  source: command\n  command: [joules]\n"

    power = load_device(written(tmp_path, text)).power

    assert power.first.to_agent() == {"source": "command", "rail": "meter", "command": ["joules"]}
    assert not power.on_host


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["source: command"], "10: power: command: required with source command"),
        (["source: command", "command: []"], "12: power.command: "),
        (["source: command", "command: meter -x"], "12: power.command: expected a list"),
        (["source: command", "command: [meter, 7]"], "12: power.command[1]: expected text, got 7"),
        (["source: nvml", "command: [a]"], "10: power: command: belongs to source command, not"),
        (["source: rapl", "where: host"], "10: power: where: rapl is read on the board"),
        (["source: nvml", "where: there"], "12: power.where: "),
        (["source: ina3221"], "10: power: rail: required with a power source"),
        (["source: nvml", "also: [{source: usb}]"], "12: power.also[0].source: "),
        (["source: nvml", "also: [{source: command}]"], "12: power.also[0]: command: required"),
        (["source: nvml", "also: [{source: rapl, of: 7}]"], "12: power.also[0].of: unknown field"),
        (["source: none", "also: [{source: rapl}]"], "10: power: also: name the first power"),
        (["source: nvml", "interval_ms: 5"], "12: power.interval_ms: expected greater than"),
        (["source: nvml", "sensor: {gain: -1}"], "12: power.sensor.gain: expected greater than"),
        (["source: nvml", "sensor: {gian: 1}"], "12: power.sensor.gian: unknown field; did you"),
    ],
)
def test_a_power_source_that_makes_no_sense_is_refused(lines, expected, tmp_path):
    text = GOOD + "power:\n" + "".join(f"  {line}\n" for line in lines)

    found = problems(tmp_path, text)

    assert len(found) == 1
    assert found[0].startswith(expected)


def test_no_meter_here_can_follow_an_emulated_board(tmp_path):
    text = """\
schema: hil/device@1
name: virtual
driver: emulated
board: jetson-tx2
power: {source: command, command: [meter], where: host}
"""

    assert "no host meter follows it" in problems(tmp_path, text)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "1: the file is empty"), ("- a\n", "1: expected fields (name: value), got ['a']")],
)
def test_a_file_that_is_no_mapping_is_named_as_a_whole(text, expected, tmp_path):
    assert problems(tmp_path, text) == [expected]


def test_bytes_that_are_no_text_are_a_config_error(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_bytes(b"name: \xff\xfe")

    with pytest.raises(ConfigError, match="not UTF-8"):
        load_device(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tx2", (None, "tx2", None)),
        ("me@tx2:2222", ("me", "tx2", 2222)),
        ("[fe80::1]:22", (None, "fe80::1", 22)),
    ],
)
def test_hosts_are_split_as_people_write_them(text, expected):
    assert parse_host(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "tx2:0", "tx2:99999", "@tx2", "fe80::1"])
def test_what_is_no_host_is_refused(text):
    with pytest.raises(ConfigError):
        parse_host(text)


def test_host_on_the_command_line_overrides_the_file(tmp_path):
    device = with_host(load_device(written(tmp_path, GOOD)), "me@other:2222")

    assert isinstance(device, SshDevice)
    assert (device.ssh.user, device.ssh.host, device.ssh.port) == ("me", "other", 2222)
    assert device.ssh.known_hosts == tmp_path / "known_hosts"


def test_a_device_without_a_host_takes_no_host(tmp_path):
    with pytest.raises(ConfigError, match="no host to override"):
        with_host(find_device("tx2-emulated", cwd=tmp_path), "elsewhere")
