"""Hostile boards: what real boards in the field have wrong with them, drawn by a seed.

`quirks` is a board's defects as data, `variants` names each with its source and draws them,
`ground` lays them out in the board's files, `pythonside` acts inside the board's Python, and the
board's own programs ask `quirks.of_this_board()` how they are to behave.
"""
