"""The commands of the emulated board; each starts in a bare interpreter: standard library only."""
