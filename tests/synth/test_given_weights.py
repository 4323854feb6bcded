"""A user's own weights: taken as they are, or refused in words; never anything but tensors."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from hil.core.errors import ConfigError
from hil.synth.tensors import given_weights

pytestmark = pytest.mark.torch


def network(width=3):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width))


def test_weights_and_statistics_come_from_the_file(tmp_path):
    trained, fresh = network(), network()
    trained[1].running_mean.fill_(4.0)
    torch.save(trained.state_dict(), tmp_path / "w.pt")

    given_weights(fresh, tmp_path / "w.pt")

    own, theirs = trained.state_dict(), fresh.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


class Opens:
    """What runs when an untrusted pickle is read."""

    def __reduce__(self):
        return (print, ("this must not run",))


def test_what_is_no_state_dict_is_refused_and_nothing_in_it_runs(tmp_path, capsys):
    (tmp_path / "text.pt").write_text("not weights", encoding="utf-8")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "program.pt").write_bytes(pickle.dumps({"w": Opens()}))
    torch.save(network(), tmp_path / "module.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")

    for name in ("text", "empty", "program", "module", "tensor"):
        with pytest.raises(ConfigError, match="holds no state dict"):
            given_weights(network(), tmp_path / f"{name}.pt")
    assert capsys.readouterr().out == ""


def test_missing_files_and_other_networks_are_told(tmp_path):
    torch.save(network(4).state_dict(), tmp_path / "wide.pt")

    with pytest.raises(ConfigError, match="not found"):
        given_weights(network(), tmp_path / "none.pt")
    with pytest.raises(ConfigError, match="not of this prototype") as caught:
        given_weights(network(), tmp_path / "wide.pt")
    assert "size mismatch" in caught.value.why
