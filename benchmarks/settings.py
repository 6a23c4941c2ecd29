"""How much is measured: the sizes and rounds of a real run, and tiny ones that only show that all works."""

from __future__ import annotations

from dataclasses import dataclass

OWN_THREADS = 0
"""Stands for the number of threads that a library takes by itself."""


@dataclass(frozen=True)
class Sizes:
    """Sizes and rounds.

    Attributes:
        rounds: Turns of each opponent in a case of steps.
        jena_steps, imdb_steps: Steps of one turn; on IMDB ours takes a whole pass.
        pause_s: Rest before a turn, so that threads of the one before have gone to sleep.
        threads: Ways in which an opponent is run: with so many threads, or with its own number (0).
        whole_epochs, whole_steps, whole_rounds: Of the whole training of both Jena variants.
        ingest_rows, ingest_rounds: Of ingestion beside pandas.
        growth_rows: Rows of simulated Jena files, ascending.
        growth_reviews: Reviews of simulated IMDB files, ascending.
        sample_epochs, sample_steps: Of `retrain run` beside its bare training loop.
        gpu_steps: Steps of one turn on a GPU.
        serve_seconds, serve_rounds: Of load on a server.
    """

    rounds: int = 7
    jena_steps: int = 60
    imdb_steps: int = 20
    pause_s: float = 0.5
    threads: tuple[int, ...] = (1, OWN_THREADS)
    equality_batches: int = 157
    whole_epochs: int = 3
    whole_steps: int = 500
    whole_rounds: int = 2
    ingest_rows: int = 420_551
    ingest_rounds: int = 7
    growth_rows: tuple[int, ...] = (420_551, 1_261_653, 4_205_510)
    growth_reviews: tuple[int, ...] = (50_000, 200_000)
    growth_rounds: int = 3
    start_rounds: int = 10
    import_rounds: int = 5
    sample_epochs: int = 5
    sample_steps: int = 100
    sample_rounds: int = 2
    gpu_steps: int = 200
    serve_seconds: float = 8.0
    serve_rounds: int = 3


QUICK = Sizes(
    rounds=2,
    jena_steps=2,
    imdb_steps=2,
    pause_s=0.0,
    threads=(1,),
    equality_batches=2,
    whole_epochs=1,
    whole_steps=2,
    whole_rounds=1,
    ingest_rows=12_000,
    ingest_rounds=2,
    growth_rows=(12_000, 24_000),
    growth_reviews=(400, 1_600),
    growth_rounds=1,
    start_rounds=2,
    import_rounds=1,
    sample_epochs=1,
    sample_steps=2,
    sample_rounds=1,
    gpu_steps=2,
    serve_seconds=0.5,
    serve_rounds=1,
)
