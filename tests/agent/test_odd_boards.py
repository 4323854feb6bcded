"""The real agent on boards that are not as expected: it says what is so and leaves nothing."""

import base64
import hashlib
import signal

import pytest

SIGILL = """\
import os, signal
if os.environ.get("OPENBLAS_CORETYPE") != %r:
    os.kill(os.getpid(), signal.SIGILL)
__version__ = "1.19.5"
"""
NEVER = "nothing survives this"


@pytest.fixture
def with_numpy(bench):
    """Puts a numpy on the board that dies unless the environment is as given."""

    def put(coretype):
        folder = bench.board.root / "site"
        (folder / "numpy").mkdir(parents=True)
        (folder / "numpy/__init__.py").write_text(SIGILL % coretype)
        for name in ("tensorrt", "pycuda", "onnxruntime"):
            (folder / f"{name}.py").write_text("import numpy\n__version__ = VERSION_TEXT = '9'\n")
        starting_with(bench, f"export PYTHONPATH={folder}")

    return put


def starting_with(bench, line):
    """Has the board's Python start with a line of shell before it."""
    bench.board.program("python3", f'{line}\nexec {bench.python} "$@"\n')
    bench.python = f"{bench.board.root}/usr/bin/python3"


def test_a_numpy_that_dies_is_worked_around_and_told(bench, with_numpy):
    with_numpy("ARMV8")

    told = bench.greeted().call("probe")

    assert told["import_deaths"] == {"numpy": {"plain": -signal.SIGILL, "coretype": 0}}
    assert (told["numpy"], told["tensorrt"]) == ("1.19.5", "9")


def test_a_numpy_that_dies_all_the_same_is_left_out_and_told(bench, with_numpy):
    with_numpy(NEVER)

    told = bench.greeted().call("probe")

    assert told["import_deaths"]["numpy"] == {"plain": -4, "coretype": -4}
    assert set(told["import_deaths"]) == {"numpy"}  # the others fail in order without it
    assert (told["numpy"], told["tensorrt"]) == (None, None)


def test_libraries_that_can_be_imported_are_imported_once(bench):
    assert bench.greeted().call("probe")["import_deaths"] == {}


def pinned(board):
    """Has every clock of the board pinned by somebody else."""
    cpu = "sys/devices/system/cpu/cpu0/cpufreq"
    board.write(f"{cpu}/scaling_min_freq", "2035200\n")


def test_clocks_that_were_pinned_before_are_not_stored_and_stay(bench):
    pinned(bench.board)
    agent = bench.greeted()
    agent.lease()

    assert agent.call("board_pin", nvpmodel=None, clocks=True)["found_pinned"] is True
    assert agent.end_input() == 0

    changes = [call for call in bench.board.calls() if not call.endswith("-q")]
    assert changes == ["jetson_clocks "]
    assert not bench.board.restore_file.exists()


def test_clocks_pinned_before_are_pinned_again_after_a_change_of_mode(bench):
    pinned(bench.board)
    agent = bench.greeted()
    agent.lease()
    agent.call("board_pin", nvpmodel=0, clocks=True)

    assert agent.end_input() == 0

    changes = [call for call in bench.board.calls() if not call.endswith("-q")]
    assert changes == ["nvpmodel -m 0", "jetson_clocks ", "nvpmodel -m 3", "jetson_clocks "]


def test_what_sudo_denies_leaves_nothing_to_give_back(bench):
    bench.board.program("sudo", "echo 'sudo: a password is required' >&2; exit 1\n")
    agent = bench.greeted()
    agent.lease()
    agent.error("board_pin", nvpmodel=0, clocks=True)
    agent.error("board_pin", nvpmodel=None, clocks=True)

    assert not bench.board.restore_file.exists()
    assert agent.call("board_restore") == {"restored": []}


def test_clocks_denied_after_the_mode_was_set_leave_the_mode_to_give_back(bench):
    refuse = 'case "$*" in *jetson_clocks*) echo "sudo: no" >&2; exit 1;; esac\n'
    bench.board.program("sudo", f'shift\n[ "$1" = -l ] && exit 0\n{refuse}exec "$@"\n')
    agent = bench.greeted()
    agent.lease()
    agent.error("board_pin", nvpmodel=0, clocks=True)
    assert (bench.board.root / "mode").read_text() == "0"

    assert agent.call("board_restore") == {"restored": ["nvpmodel"]}

    assert (bench.board.root / "mode").read_text() == "3"
    assert not bench.board.restore_file.exists()


def test_an_nvpmodel_that_asks_gets_no_answer_and_is_not_waited_for(bench):
    asks = 'echo "reboot? [YES/no]"; read answer || exit 77\n'
    bench.board.program(
        "nvpmodel", f'if [ "$1" = -q ]; then printf "NV Power Mode: MAXN\\n3\\n"; else {asks}fi\n'
    )
    agent = bench.greeted()
    agent.lease()

    refusal = agent.error("board_pin", nvpmodel=0, clocks=False)

    assert refusal["code"] == "board_state"
    assert "status 77" in refusal["message"]
    assert "by hand" in refusal["fix"]
    assert agent.call("board_restore") == {"restored": ["nvpmodel"]}  # as it is: not set again


def test_what_else_is_on_the_board_is_told(bench):
    board = bench.board
    for number, name in enumerate(("Xorg", "bash", "gnome-shell")):
        board.write(f"proc/{900 + number}/comm", f"{name}\n")
    board.write("sys/devices/system/cpu/cpu1/online", "0\n")
    node = "sys/bus/i2c/drivers/ina3221x/0-0041/iio:device1"
    board.write(f"{node}/rail_name_0", "VDD_IN\n")
    board.write(f"{node}/in_power0_input", "4000\n")

    told = bench.greeted().call("probe")

    assert told["display"] == ["Xorg", "gnome-shell"]
    assert told["cores_online"] == 1
    assert told["rails"] == ["VDD_IN"]
    assert told["clocks_pinned"] is False
    assert told["l4t_read_in"] == f"{board.root}/etc/nv_tegra_release"
    assert told["wall_clock_s"] > 1e9


def test_programs_are_read_in_english_whatever_the_login_speaks(bench):
    starting_with(bench, "export LC_ALL=de_DE.UTF-8 LANG=de_DE.UTF-8")
    bench.board.program("nvpmodel", '[ "$LC_ALL" = C ] && printf "NV Power Mode: MAXN\\n0\\n"\n')

    assert bench.greeted().call("probe")["nvpmodel"] == {"id": 0, "name": "MAXN"}


def test_a_source_that_ends_by_itself_is_told_at_once(bench):
    from .conftest import has_onnxruntime
    from .test_engine_process import PLAN, build, network

    if not has_onnxruntime(bench.python):
        pytest.skip(f"{bench.python} has no onnxruntime")
    lines = "for i in 1 2 3 4 5 6; do echo 'RAM 1/2MB VDD_IN 4000/4000'; done\n/bin/sleep 0.2\n"
    bench.board.program("tegrastats", lines)
    agent = bench.greeted()
    agent.lease()
    engine = build(agent, bench.put(agent, network()))["engine"]

    _, events = agent.finish(
        agent.start(
            "engine_run",
            engine=engine,
            runtime="onnxruntime",
            plan=PLAN,
            power=[{"source": "tegrastats", "rail": "VDD_IN"}],
        )
    )

    kinds = [event["kind"] for event in events]
    assert {"kind": "source_ended", "source": 0} in events
    told = [n for n, kind in enumerate(kinds) if kind == "power"]
    assert kinds.index("source_ended") > max(told)


def test_another_python_that_has_tensorrt_is_named(bench):
    for name, status in (("python3.5", 1), ("python3.6", 0), ("python3-config", 0)):
        bench.board.program(name, f"exit {status}\n")

    told = bench.greeted().call("probe")

    assert told["tensorrt"] is None
    assert told["tensorrt_elsewhere"] == f"{bench.board.root}/usr/bin/python3.6"


def test_a_state_folder_that_cannot_be_is_made_elsewhere(bench):
    starting_with(bench, f"export TMPDIR={bench.board.root}/tmp")
    (bench.board.home / ".hil").write_text("in the way")

    agent = bench.start()
    told = agent.hello()

    assert told["state_dir"].startswith(f"{bench.board.root}/tmp/hil-")
    assert ".hil" in told["state_dir_refused"]
    data = b"some bytes" * 1000
    for offset in (0, 6000):
        piece = base64.b64encode(data[offset : offset + 6000]).decode()
        agent.call("blob_write", name="up", offset=offset, data_b64=piece)
    sha256 = hashlib.sha256(data).hexdigest()
    agent.call("blob_commit", name="up", sha256=sha256)
    read = agent.call("blob_read", sha256=sha256, offset=5, most=100)
    assert base64.b64decode(read["data_b64"]) == data[5:105]


def test_a_piece_that_does_not_follow_is_refused(bench):
    agent = bench.greeted()
    agent.call("blob_write", name="up", offset=0, data_b64="QUJD")

    assert agent.error("blob_write", name="up", offset=9, data_b64="QUJD")["code"] == "bad_request"
    assert agent.error("blob_write", name="up", offset=3, data_b64="!")["code"] == "bad_request"
    assert agent.error("blob_write", name="../up", offset=0, data_b64="")["code"] == "bad_request"


SUDO = """[ "$1" = -n ] && shift
[ "$1" = -l ] && {{ shift; list=1; }}
case "$*" in *"{denied}"*) echo "sudo: a password is required" >&2; exit 1;; esac
[ -n "$list" ] && exit 0
exec "$@"
"""


@pytest.mark.parametrize(
    ("denied", "ask"), [("-m 3", {"nvpmodel": 0, "clocks": False}), ("--restore", {"clocks": True})]
)
def test_what_could_not_be_given_back_is_not_changed(bench, denied, ask):
    bench.board.program("sudo", SUDO.format(denied=denied))
    agent = bench.greeted()
    agent.lease()

    refusal = agent.error("board_pin", **ask)

    assert refusal["code"] == "not_permitted"
    assert "could not be given back" in refusal["why"]
    assert denied in refusal["fix"]
    assert not [call for call in bench.board.calls() if not call.endswith("-q")]
    assert not bench.board.restore_file.exists()


def test_the_line_for_sudoers_names_a_mode_of_the_lab_s_own(bench):
    bench.board.write("mode", "7")
    bench.board.program("sudo", SUDO.format(denied="-m 7"))
    agent = bench.greeted()
    agent.lease()

    assert "nvpmodel -m 7," in agent.error("board_pin", nvpmodel=0, clocks=False)["fix"]


def test_whatever_runs_out_of_memory_says_how_much_there_is(bench):
    folder = bench.board.root / "site"
    folder.mkdir()
    (folder / "onnxruntime.py").write_text("raise MemoryError('CUDA: out of memory')\n")
    starting_with(bench, f"export PYTHONPATH={folder}")
    told = "MemTotal:        8042320 kB\nMemAvailable:      20480 kB\n"
    bench.board.write("proc/meminfo", told)

    refusal = bench.greeted().error("probe")

    assert refusal["code"] == "out_of_memory"
    assert "20 MiB available now" in refusal["why"]
    assert "close other programs" in refusal["fix"]
