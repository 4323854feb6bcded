"""Pinning the board's power mode and clocks, and giving them back as found.

What was found is written to `restore.json` before anything changes. Giving back is last in,
first out: clocks first, because they were stored inside the mode they belong to. The file goes
only when everything is back, so whoever starts next can finish what a crash left.

Clocks that somebody else had pinned are not stored: that would make the pinned state the one to
go back to for ever. They stay pinned.
"""

import getpass
import os

from . import blobs, state
from .errors import AgentError

RECORD = "restore.json"
_CLOCKS_FILE = "var/lib/hil/clocks.conf"


class Clocks:
    """The board's power mode and clocks, changed only by fixed `sudo -n` command lines."""

    def __init__(self, board, store):
        self._board = board
        self._store = store
        self.conf = os.path.join(board.root, _CLOCKS_FILE)
        self.found_pinned = False
        self._modes = set(range(5))

    def pending(self):
        """True while something waits to be given back."""
        return self._record() is not None

    def pin(self, mode, clocks):
        """Sets power mode `mode` (None: leave) and, where asked, the mode's highest clocks.

        Returns:
            The board's state afterwards.

        Raises:
            AgentError: `not_permitted` with the line for sudoers, or where the board has no such
                program; `board_state` where the board does not take what is set.
        """
        found = self._board.power_mode()
        if mode is not None:
            self._need("nvpmodel")
        if clocks:
            self._need("jetson_clocks")
        record = self._record() or {
            "nvpmodel": found,
            "clocks": False,
            "mode_changed": False,
            "found_pinned": state.read(self._board.root)["clocks_pinned"] is True,
        }
        record["boot_id"] = self._board.boot_id
        self.found_pinned = bool(record.get("found_pinned"))
        change_mode = mode is not None and (found is None or found["id"] != mode)
        if change_mode:
            self._set_mode(mode, record)
        if clocks:
            self._pin_clocks(record)
        return self._board.state(self._board.power_mode())

    # assumes: mode-resets-clocks, left-as-found
    def restore(self):
        """Gives back what was found; returns what that was, as a list of words.

        Raises:
            AgentError: where a command failed; the record stays for the next try.
        """
        record = self._record()
        if record is None:
            return []
        done = []
        # A reboot resets clocks by itself, and the stored ones would pin nothing meaningful.
        if record.get("clocks") and record.get("boot_id") == self._board.boot_id:
            self._sudo("jetson_clocks", "--restore", self.conf)
            done.append("clocks")
        mode = record.get("nvpmodel")
        if record.get("mode_changed") and isinstance(mode, dict):
            now = self._board.power_mode()
            if now is None or now["id"] != mode["id"]:  # a mode that was refused is as it was
                self._sudo("nvpmodel", "-m", str(int(mode["id"])))
            done.append("nvpmodel")
            if record.get("found_pinned") and record.get("boot_id") == self._board.boot_id:
                self._sudo("jetson_clocks")  # a change of mode has unpinned what was pinned
        blobs.remove(self._store.path(RECORD))
        return done

    # assumes: sudo-asks-nothing
    def permitted(self, program, *arguments):
        """True where sudo would run that command line without asking."""
        sudo, path = self._board.program("sudo"), self._board.program(program)
        if sudo is None or path is None:
            return False
        return self._board.run([sudo, "-n", "-l", path] + list(arguments)).status == 0

    def _record(self):
        return self._store.read_json(RECORD)

    def _way_back(self, program, there, back):
        """Demands that what is about to change may be given back, before it is changed."""
        if self.permitted(program, *there) and not self.permitted(program, *back):
            raise self._refusal(program, back, "what is changed could not be given back")

    # assumes: mode-without-prompt
    def _set_mode(self, mode, record):
        if record["nvpmodel"] is not None:
            self._modes |= {mode, record["nvpmodel"]["id"]}
            back = ("-m", str(record["nvpmodel"]["id"]))
            self._way_back("nvpmodel", ("-m", str(mode)), back)
        record["mode_changed"] = record["nvpmodel"] is not None
        self._store.write_json(record, RECORD)
        try:
            self._sudo("nvpmodel", "-m", str(mode))
        except AgentError as error:
            self._nothing_changed(error, record, "mode_changed")
            raise
        now = self._board.power_mode()
        if now is None or now["id"] != mode:
            raise AgentError(
                "board_state",
                "the board did not take power mode %d" % mode,
                "nvpmodel -q now says %s" % ("nothing" if now is None else now["name"]),
                "some modes need a reboot: set it by hand (sudo nvpmodel -m %d)" % mode,
            )

    # assumes: clocks-store
    def _pin_clocks(self, record):
        if record.get("found_pinned"):
            self._store.write_json(record, RECORD)
            self._sudo("jetson_clocks")
            return
        if not os.path.isdir(os.path.dirname(self.conf)):
            raise AgentError(
                "not_permitted",
                "the clocks cannot be stored",
                "the folder %s does not exist" % os.path.dirname(self.conf),
                "sudo install -d -m 0755 %s" % os.path.dirname(self.conf),
            )
        if not record["clocks"]:
            there, back = ("--store", self.conf), ("--restore", self.conf)
            self._way_back("jetson_clocks", there, back)
            # jetson_clocks asks whether it may overwrite an older file and stores nothing at
            # end of file; the one answer, then end of file, cannot hang.
            self._sudo("jetson_clocks", "--store", self.conf, given=b"y\n")
            record["clocks"] = True
        self._store.write_json(record, RECORD)
        try:
            self._sudo("jetson_clocks")
        except AgentError as error:
            self._nothing_changed(error, record, "clocks")
            raise

    def _nothing_changed(self, error, record, what):
        """Notes that a command did not run at all, so that nothing is to be given back."""
        if error.code != "not_permitted":
            return
        record[what] = False
        if record["mode_changed"] or record["clocks"]:
            self._store.write_json(record, RECORD)
        else:
            blobs.remove(self._store.path(RECORD))

    def _need(self, program):
        if self._board.program(program) is None:
            raise AgentError(
                "not_permitted",
                "this board has no %s" % program,
                "it is not on %s" % self._board.path,
                "set `state: {nvpmodel: null, clocks: false}` in the device file",
            )

    def _sudo(self, program, *arguments, given=None):
        path = self._board.program(program)
        sudo = self._board.program("sudo")
        if path is None or sudo is None:
            missing = "sudo" if path else program
            raise self._refusal(program, arguments, "%s is not on PATH" % missing)
        done = self._board.run([sudo, "-n", path] + list(arguments), given=given)
        if done.status == 0:
            return
        if "sudo:" in done.errors or "not allowed to execute" in done.errors:
            raise self._refusal(program, arguments, done.tail())
        how = "took too long" if done.status is None else "failed with status %d" % done.status
        raise AgentError(
            "board_state",
            "%s %s" % (program, how),
            done.tail() or None,
            "run it on the board by hand: sudo %s %s" % (path, " ".join(arguments)),
        )

    def _refusal(self, program, arguments, why):
        return AgentError(
            "not_permitted",
            "sudo does not let this user run %s" % " ".join((program,) + arguments),
            why,
            "put this line into /etc/sudoers.d/hil: " + self.sudoers_line(),
        )

    # assumes: sudo-exact
    def sudoers_line(self):
        """The exact permission needed: no wildcards, and `""` so that no argument sneaks in."""
        paths = {"nvpmodel": "/usr/sbin/nvpmodel", "jetson_clocks": "/usr/bin/jetson_clocks"}
        lines = []
        for program, arguments in self.command_lines():
            path = self._board.program(program) or paths[program]
            lines.append(" ".join([path] + (arguments or ['""'])))
        return "%s ALL=(root) NOPASSWD: %s" % (_user(), ", ".join(lines))

    def command_lines(self):
        """(program, arguments) of everything that is ever run as root."""
        lines = [("nvpmodel", ["-m", str(number)]) for number in sorted(self._modes)]
        lines.append(("jetson_clocks", []))
        return lines + [
            ("jetson_clocks", ["--" + verb, self.conf]) for verb in ("store", "restore")
        ]


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "USER"
