"""Variants of the login: what the shell prints, sshd's limits, sudo, locale, names, leftovers."""

from __future__ import annotations

import random

from hil.emulator.hostile.quirks import Quirks
from hil.emulator.hostile.variant import Variant, having, with_fields

SFTP_SHELL = (r"sftp", r"bashrc", r"prints", r"output", r"shell")
SUDO = (r"sudo", r"password", r"sudoers", r"root")
SLOW = (r"connect", r"link", r"ssh", r"session", r"banner", r"lost", r"did not answer")
BUSY_MOTD = "".join(
    f"echo 'lab policy line {n}: do not unplug the boards'\n" for n in range(1, 301)
)


def _echo(quirks: Quirks, draw: random.Random) -> Quirks:
    text = draw.choice(
        (
            "echo 'Welcome to the lab, jetson 7'",
            'echo \'{"motd": "nightly reboot at 03:00", "id": 1}\'',
            "echo 'Agent pid 4711' >&2",
            "printf 'ROS_DISTRO was set to melodic before.\\r\\n'",
        )
    )
    return with_fields(quirks, {"bashrc": text + "\n"})


VARIANTS = (
    Variant(
        "bashrc-echo", "noise",
        "~/.bashrc prints a line in every session, before any command's own output.",
        "https://github.com/ansible/ansible/issues/2268",
        _echo,
    ),
    Variant(
        "bashrc-floods", "noise",
        "~/.bashrc prints 300 lines in every session.",
        "https://github.com/hanxi/blog/issues/69",
        having(bashrc=BUSY_MOTD),
    ),
    Variant(
        "bashrc-no-newline", "noise",
        "~/.bashrc prints text without a newline: a command's first output is glued to it.",
        "https://github.com/warpdotdev/warp/issues/6179",
        having(bashrc="printf 'loading modules... done '\n"),
    ),
    Variant(
        "bashrc-colours", "noise",
        "~/.bashrc prints terminal colours, a stray CRLF and bytes that are no UTF-8.",
        "https://github.com/lablup/backend.ai/pull/11773",
        having(bashrc="printf '\\033[33m* only /data is kept\\033[0m\\r\\n\\377\\376 tx2\\n'\n"),
    ),
    Variant(
        "bashrc-breaks-sftp", "noise",
        "~/.bashrc prints a line, and sshd starts sftp-server through the login's shell: the line "
        "comes where SFTP's first packet should be.",
        "https://github.com/ansible/ansible/issues/2268; "
        "https://github.com/lablup/backend.ai/issues/11772",
        having(bashrc="echo 'Welcome to the lab'\n", sftp="shell"),
        says=SFTP_SHELL,
    ),
    Variant(
        "no-sftp", "sshd",
        "sshd has no SFTP subsystem.",
        "https://github.com/ansible/ansible/issues/788; "
        "https://github.com/ARM-software/devlib/pull/546",
        having(sftp="none"),
        says=(r"sftp",),
    ),
    Variant(
        "max-sessions-1", "sshd",
        "sshd allows one channel a connection at a time (MaxSessions 1).",
        "https://github.com/gravitational/teleport/issues/23593; "
        "https://github.com/cloudposse/bastion/pull/79",
        having(max_sessions=1),
        says=(r"maxsessions", r"sessions", r"channels", r"prohibited"),
    ),
    Variant(
        "sessions-end", "sshd",
        "Something ends every connection after 4 s.",
        "https://github.com/paramiko/paramiko/issues/1815 (a link that ends while one waits)",
        having(session_s=4.0),
        says=SLOW,
    ),
    Variant(
        "slow-login", "sshd",
        "sshd looks up the client's name first and takes 3 s before it says a word (UseDNS).",
        "https://github.com/paramiko/paramiko/issues/664",
        having(login_s=3.0),
        says=SLOW,
    ),
    Variant(
        "slow-link", "sshd",
        "The board sends at most 60 kB a second, 15 ms late (a field link).",
        "jetson.md 5",
        having(faults=("slow-link:bytes_per_s=60000,delay_ms=15",)),
        says=SLOW,
    ),
    Variant(
        "link-cut", "sshd",
        "The link is cut once, after the board has sent 60 kB.",
        "https://github.com/paramiko/paramiko/issues/1815; jetson.md 5",
        having(faults=("link-cut:bytes=60000,down_s=0.3",)),
        says=SLOW,
    ),
    Variant(
        "sudo-none", "sudo",
        "No sudoers line was installed: sudo -n says that a password is required.",
        "jetson.md 5",
        having(sudo="none"),
        says=SUDO,
    ),
    Variant(
        "sudo-not-a-sudoer", "sudo",
        "The login is not in the sudoers file.",
        "jetson.md 5",
        having(sudo="not-in-sudoers"),
        says=SUDO,
    ),
    Variant(
        "sudo-without-nvpmodel", "sudo",
        "Only the lines for jetson_clocks were installed.",
        "jetson.md 5",
        having(sudo="no-nvpmodel"),
        says=SUDO,
    ),
    Variant(
        "sudo-without-store", "sudo",
        "Only nvpmodel -m and a bare jetson_clocks were allowed: no --store, no --restore.",
        "jetson.md 2.5, 5",
        having(sudo="no-store"),
        says=SUDO,
    ),
    Variant(
        "sudo-requires-tty", "sudo",
        "requiretty is set: sorry, you must have a tty to run sudo.",
        "https://github.com/ansible/ansible/issues/31131",
        having(sudo="requiretty"),
        says=(r"\btty\b", *SUDO),
    ),
    Variant(
        "sudo-cannot-resolve-host", "sudo",
        "sudo works and says on stderr that it cannot resolve the board's name.",
        "https://github.com/WhitewaterFoundry/Pengwin/issues/344",
        having(sudo="host-warning", hostname="tx2-lab"),
    ),
    Variant(
        "sudo-lectures", "sudo",
        "sudo works and gives its lecture on stderr first, and that on stdout, too (a wrapper).",
        "sudoers(5), lecture",
        having(sudo="lecture"),
    ),
    Variant(
        "locale-c", "locale",
        "LANG=C with Python's stdio in ASCII, as Python 3.6 has it there.",
        "PEP 538, PEP 540",
        having(
            environment={
                "LANG": "C",
                "LC_ALL": "C",
                "PYTHONIOENCODING": "ascii",
                "PYTHONUTF8": "0",
                "PYTHONCOERCECLOCALE": "0",
            }
        ),
    ),
    Variant(
        "locale-posix", "locale",
        "LC_ALL=POSIX, no LANG.",
        "PEP 538",
        having(environment={"LANG": "", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}),
    ),
    Variant(
        "locale-german", "locale",
        "LANG=de_DE.UTF-8: sudo refuses in German, numbers are written with a comma.",
        "sudo's message catalogue",
        having(environment={"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"}),
    ),
    Variant(
        "locale-turkish", "locale",
        "LANG=tr_TR.UTF-8, where lower case of I is not i in programs that ask the locale.",
        "Unicode SpecialCasing, tr",
        having(environment={"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}),
    ),
    Variant(
        "odd-home", "names",
        "A domain login, a home folder with a space and an apostrophe in it, and a host name of 63 "
        "letters.",
        "sssd.conf(5), full_name_format; jetson.md 5",
        having(
            user="lab-user@corp.example.com",
            home="home/corp.example.com/lab user's tx2",
            hostname="jetson-tx2-in-rack-17-of-the-very-long-name-laboratory-building",
        ),
    ),
    Variant(
        "older-agent", "leftovers",
        "A former version left its agent, a half upload, a blob that is not what its name says, "
        "and readable folders.",
        "DESIGN.md 5 (agents are named by their hash)",
        having(leftovers=("older-agent",)),
    ),
    Variant(
        "state-is-a-file", "leftovers",
        "Where the agent's folder should be there is a file.",
        "assumed: a copy that went to the wrong place",
        having(leftovers=("state-is-a-file",)),
        says=(r"\.hil",),
    ),
    Variant(
        "lease-of-root", "lease",
        "Somebody ran hil as root before: the lease's file is root's, and nobody else may open it.",
        "the like of jetson.md 1.1 (jetson_stats #360, a file of root's in a shared folder)",
        having(disk={"run/lock/hil-board.lease": "EACCES"}),
        says=(r"lease", r"lock", r"permission"),
    ),
)  # fmt: skip
