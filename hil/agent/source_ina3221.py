"""INA3221 power monitors read from sysfs, without tegrastats between.

A line has a token for each rail: `VDD_IN=4823mW` where the driver tells power, else
`VDD_IN=19152mV,252mA`. A channel that cannot be read this time is left out of the line.
"""

from . import monitors
from .errors import AgentError
from .selfstart import own_argv


def start(board, spec):
    """Command line and settings.

    Raises:
        AgentError: `no_power` where there is no monitor, or none with that rail.
    """
    found = _channels(board.root)
    rail = spec.get("rail")
    rails = [channel.rail for channel in found]
    if rail and rail not in rails:
        raise AgentError(
            "no_power",
            "no power monitor of this board has a rail %s" % rail,
            "it has: %s" % ", ".join(rails),
            "set power.rail in the device file to one of them",
        )
    settings = {"monitors": {channel.rail: channel.monitor for channel in found}}
    volts = {c.rail: monitors.number(c.voltage) for c in found if c.voltage is not None}
    settings["bus_mv"] = {name: value for name, value in volts.items() if value is not None}
    words = ["sample", "ina3221", "--root", board.root]
    modes = monitors.sensor_settings(board.root).get("running_mode", {})
    if 0 in modes.values():  # readings are instants: even distances could keep step with the load
        words.append("--jitter")
        settings["jittered"] = True
    return own_argv(words + ["--interval-ms", str(spec["interval_ms"])]), settings


def sampler(root):
    """Function that reads all rails once and gives a line.

    Raises:
        AgentError: `no_power` where there is no monitor.
    """
    found = _channels(root)

    def read():
        tokens = [token for token in map(_token, found) if token is not None]
        if not tokens:
            raise AgentError(
                "no_power",
                "no power monitor of this board can be read any more",
                "%d channels under %s" % (len(found), found[0].monitor),
                "see what the kernel says (`dmesg | grep ina3221`)",
            )
        return " ".join(tokens)

    return read


def _channels(root):
    found = monitors.channels(root)
    if not found:
        raise AgentError(
            "no_power",
            "this board shows no INA3221 power monitor",
            "nothing with a named channel under /sys/bus/i2c/drivers/ina3221x or ina3221",
            "use `power: {source: tegrastats}`, or an external meter (`source: command`)",
        )
    return found


def _token(channel):
    if channel.power is not None:
        power_mw = monitors.number(channel.power)
        return None if power_mw is None else "%s=%dmW" % (channel.rail, power_mw)
    voltage_mv, current_ma = monitors.number(channel.voltage), monitors.number(channel.current)
    if voltage_mv is None or current_ma is None:
        return None
    return "%s=%dmV,%dmA" % (channel.rail, voltage_mv, current_ma)
