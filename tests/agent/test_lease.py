"""One holder at a time; nobody holds a board past his time or beyond a reboot."""

import json
import threading

import pytest

from hil.agent.errors import AgentError
from hil.agent.lease import Lease


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "run/lock").mkdir(parents=True)
    return tmp_path


def leases(root, clock, boots=("b", "b")):
    return [Lease(str(root), boot, clock) for boot in boots]


def test_the_second_to_ask_learns_who_holds_the_board_and_until_when(root, clock):
    first, second = leases(root, clock)
    first.acquire("alice", 60)
    clock.now_s += 18

    with pytest.raises(AgentError) as refusal:
        second.acquire("bob", 60)

    assert refusal.value.code == "lease_held"
    assert "alice" in refusal.value.message
    assert "expires in 42 s" in refusal.value.message
    assert not second.held()


def test_a_lease_past_its_time_may_be_taken_and_its_holder_finds_out(root, clock):
    first, second = leases(root, clock)
    first.acquire("alice", 60)
    clock.now_s += 60.5

    second.acquire("bob", 60)

    assert first.renew() is False
    with pytest.raises(AgentError, match="does not hold"):
        first.require()
    second.require()


def test_renewing_in_time_keeps_the_lease(root, clock):
    first, second = leases(root, clock)
    first.acquire("alice", 60)
    for _ in range(5):
        clock.now_s += 50
        assert first.renew()

    with pytest.raises(AgentError, match="held by alice"):
        second.acquire("bob", 60)


def test_a_lease_of_another_boot_binds_nobody(root, clock):
    before, after = leases(root, clock, ("boot-one", "boot-two"))
    before.acquire("alice", 1e6)

    after.acquire("bob", 60)

    assert after.status()["owner"] == "bob"


def test_stealing_needs_a_reason_and_leaves_it_on_record(root, clock):
    first, second = leases(root, clock)
    first.acquire("alice", 60)

    second.acquire("bob", 60, "alice went home")

    record = json.loads((root / "run/lock/hil-board.lease").read_text())
    assert (record["owner"], record["taken_from"]) == ("bob", "alice")
    assert record["taken_because"] == "alice went home"
    first.release()  # not hers any more: must not end bob's
    assert second.held()


def test_taking_it_twice_is_renewing_it(root, clock):
    (lease,) = leases(root, clock, ("b",))
    one = lease.acquire("alice", 60)
    clock.now_s += 59

    assert lease.acquire("alice", 60) == one
    clock.now_s += 59
    lease.require()


def test_a_released_board_is_free(root, clock):
    first, second = leases(root, clock)
    first.acquire("alice", 60)
    first.release()

    assert first.status() == {"held": False, "owner": None, "expires_in_s": None}
    second.acquire("bob", 60)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"boot_id":"b"}', b"\xff\x00"])
def test_a_damaged_lease_file_holds_nobody_up(root, clock, content):
    (root / "run/lock/hil-board.lease").write_bytes(content)
    (lease,) = leases(root, clock, ("b",))

    lease.acquire("alice", 60)

    assert lease.held()


def test_the_lease_file_may_be_written_by_every_user_and_is_no_link(root, clock):
    (lease,) = leases(root, clock, ("b",))
    lease.acquire("alice", 60)
    path = root / "run/lock/hil-board.lease"
    assert path.stat().st_mode & 0o777 == 0o666

    path.unlink()
    (root / "precious").write_text("keep")
    path.symlink_to(root / "precious")
    with pytest.raises(OSError, match="symbolic"):
        lease.acquire("mallory", 60)
    assert (root / "precious").read_text() == "keep"


def test_of_many_who_ask_at_once_exactly_one_gets_it(root, clock):
    contenders = leases(root, clock, ("b",) * 8)
    start = threading.Barrier(8)
    won, refused = [], []

    def contend(number):
        start.wait()
        try:
            contenders[number].acquire(f"user{number}", 60)
            won.append(number)
        except AgentError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert refused == ["lease_held"] * 7
    assert [lease.held() for lease in contenders].count(True) == 1


def test_a_missing_lock_folder_says_how_to_make_it(tmp_path, clock):
    with pytest.raises(AgentError) as refusal:
        Lease(str(tmp_path), "b", clock).acquire("alice", 60)

    assert refusal.value.code == "not_permitted"
    assert "install -d" in refusal.value.fix
