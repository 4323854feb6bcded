"""trtexec's own file becomes latencies; what belongs to its warm-up never does."""

from __future__ import annotations

import json

import pytest

from hil.core.errors import MeasurementError, ProtocolError
from hil.device.trtexec import read

ANSWER = {"argv": ["trtexec", "--loadEngine=x"], "warmup_ms": 200, "version": "8201"}


def query(start_ms: float, latency_ms: float, **more: float) -> dict:
    return {"startComputeMs": start_ms, "latencyMs": latency_ms, **more}


def test_8_x_writes_its_warm_up_down_and_it_is_dropped():
    queries = [query(at, at / 100, endToEndMs=1.0) for at in (10.0, 199.99, 200.0, 350.0)]

    run = read(ANSWER, json.dumps(queries).encode())

    assert run.latency_ms == (2.0, 3.5)
    assert run.dropped == 2
    assert (run.argv, run.version) == (("trtexec", "--loadEngine=x"), "8201")


def test_10_x_leaves_its_warm_up_out_by_itself():
    queries = [query(at, 1.0) for at in (10.0, 20.0)]  # times since the end of the warm-up

    run = read({**ANSWER, "version": None}, json.dumps(queries).encode())

    assert run.latency_ms == (1.0, 1.0)
    assert (run.dropped, run.version) == (0, None)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'[{"latencyMs": "fast"}]', b'[{"startComputeMs": 1}]', b"7"]
)
def test_a_file_that_is_not_trtexec_s_is_refused(data):
    with pytest.raises(MeasurementError, match="trtexec"):
        read(ANSWER, data)


def test_an_answer_that_is_none_is_a_breach_of_protocol():
    with pytest.raises(ProtocolError):
        read({"argv": []}, b"[]")
