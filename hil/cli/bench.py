"""`hil bench`: the project's claims about itself, run anew."""

from __future__ import annotations

import typer

from hil.cli import (
    bench_ablation,
    bench_certificate,
    bench_emulator,
    bench_energy,
    bench_gate,
    bench_hostile,
    bench_search,
)

app = typer.Typer(help="Benchmarks that anyone can run.", no_args_is_help=True)
bench_search.register(app)
bench_ablation.register(app)
bench_certificate.register(app)
bench_energy.register(app)
bench_emulator.register(app)
bench_hostile.register(app)
bench_gate.register(app)


@app.callback()
def _group() -> None:
    """Benchmarks that anyone can run."""
