"""Nothing that tells whose board it is survives, facts do, and doing it twice changes nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.device.redaction import Secrets, redact, redact_text

NAMES = Secrets(
    hosts=frozenset({"bench-7.lab.example.org", "bench-7", "anna-laptop", "vm"}),
    users=frozenset({"anna", "nvidia"}),
)
octet = st.integers(0, 255)
ipv4 = st.tuples(octet, octet, octet, octet).map(lambda t: ".".join(map(str, t)))
ipv6 = st.ip_addresses(v=6).map(str).filter(lambda text: any(c.isalnum() for c in text))
mac = st.lists(octet, min_size=6, max_size=6).map(lambda t: ":".join(f"{n:02x}" for n in t))
fingerprint = st.text("ABCabc0129+/", min_size=43, max_size=43).map("SHA256:".__add__)
public = st.text("ABCabc0129+/", min_size=20, max_size=80).map("ssh-ed25519 AAAA".__add__)
private = st.text("ABCabc0129+/\n", min_size=20, max_size=80).map(
    lambda body: f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----"
)
name = st.sampled_from(["bench-7.lab.example.org", "bench-7", "anna-laptop", "anna", "ANNA"])
secret = st.one_of(ipv4, ipv6, mac, fingerprint, public, private, name)
around = st.sampled_from(["", " ", "\n", "(", "from ", "host=", '"', "/", ", "])
tail = st.sampled_from(["", " ", "\n", ")", ";", '"', ", next"])


@settings(deadline=None)
@given(around, secret, tail)
def test_no_secret_survives_in_a_text(before, hidden, after):
    told = redact_text(f"{before}{hidden}{after}", NAMES)

    assert hidden.lower() not in told.lower()


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(secret, st.text(), st.integers(), st.none()),
        lambda inner: st.lists(inner) | st.dictionaries(secret | st.text(), inner),
        max_leaves=8,
    )
)
def test_once_is_as_good_as_twice(value):
    once = redact(value, NAMES)

    assert redact(once, NAMES) == once
    assert redact(once, Secrets()) == once


@settings(deadline=None)
@given(st.lists(secret, max_size=4), st.integers(-5, 5), st.booleans())
def test_no_secret_survives_in_data_at_any_depth(hidden, number, flag):
    value = {"a": [{"b": hidden}, number], "flag": flag, **dict.fromkeys(hidden, number)}

    told = redact(value, NAMES)

    text = json.dumps(told).lower()
    assert not [one for one in hidden if json.dumps(one).lower().strip('"') in text]
    assert (told["a"][1], told["flag"]) == (number, flag)


@pytest.mark.parametrize(
    "fact",
    [
        "RAM 896/7859MB (lfb 26x4MB) SWAP 0/3929MB CPU [4%@2035,off] VDD_IN 4823/4700 GPU@31.5C",
        "nvidia,p2597-0000+p3310-1000nvidia,tegra186",
        "/usr/src/tensorrt/bin/trtexec --loadEngine=x --duration=3",
        "R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref",
        "Linux 4.9.253-tegra aarch64",
        "12:34:56 nvinfer1::IBuilder and std::vector",
        "libnvinfer8 8.2.1-1+cuda10.2",
        "3160000.i2c/i2c-0/0-0041/iio:device1",
        "the monitor 0-0041 shows 19144 mV",
        "a1" * 32,
    ],
)
def test_facts_stay(fact):
    assert redact_text(fact, NAMES) == fact


def test_a_version_with_four_parts_stays_where_it_is_known_for_one():
    value = {"tensorrt": "8.2.1.32", "told": "TensorRT 8.2.1.32 at 8.8.8.8"}

    assert redact(value, NAMES) == {"tensorrt": "8.2.1.32", "told": "TensorRT 8.2.1.32 at IP"}


def test_a_common_login_goes_where_it_names_one_and_stays_where_it_names_a_maker():
    text = "nvidia@vm: User nvidia may run; nvidia ALL=(root); /home/nvidia/.hil; nvidia,quill"

    assert redact_text(text, NAMES) == (
        "USER@HOST: User USER may run; USER ALL=(root); /home/USER/.hil; nvidia,quill"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Serial\t\t: 0421018039bc", "Serial\t\t: SERIAL"),
        ('"serial_number": "14217190"', '"serial_number": "SERIAL"'),
        ("boot 3c2e4ad5-7a0e-4a2c-9d55-0c7d6f6f3b11 up", "boot UUID up"),
        ("write to anna.b@example.org", "write to USER@HOST"),
    ],
)
def test_what_names_one_board_goes(text, told):
    assert redact_text(text, NAMES) == told
