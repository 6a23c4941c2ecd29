"""Simulated input of any size, made outside of what is timed.

python -m benchmarks.simulate jena ROWS FOLDER
python -m benchmarks.simulate imdb REVIEWS FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.datasets.imdb import sample
from tasks.datasets.jena.sample import SAMPLE_FILE, simulated_weather, write_csv_zip


def main() -> None:
    """Write the files into a folder."""
    dataset, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    if dataset == "jena":
        write_csv_zip(simulated_weather(size, seed=1, start="2009-01-01T00:10:00"), folder / SAMPLE_FILE)
    else:
        sample.REVIEWS_PER_PART = size // 2
        sample.simulate(folder)


if __name__ == "__main__":
    main()
