"""Stand-in for PyCUDA on the emulated board. EMULATED: no GPU behind it."""

VERSION = (2020, 1)
VERSION_STATUS = ""
VERSION_TEXT = "2020.1"
