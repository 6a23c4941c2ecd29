"""The same networks in PyTorch: `torch.nn.GRU`, `LSTM` and `RNN`, data resident as tensors, RMSprop with Keras's constants.

torch has no recurrent dropout, so there is no `gru_dropout`.

python torch_rnn.py FOLDER THREADS turns DATASET VARIANT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from turns import answer_requests

LOOKBACK, STEP, DELAY = 1440, 6, 144
TEMPERATURE = 1
BATCH_SIZE = 128
UNITS = 32
KINDS = {"gru_baseline": torch.nn.GRU, "lstm": torch.nn.LSTM, "simple_rnn": torch.nn.RNN}
# torch's gates are r, z, n where Keras's are z, r, h; LSTM's i, f, g, o are the same in both.
GATES = {"gru_baseline": (1, 0, 2), "lstm": (0, 1, 2, 3), "simple_rnn": (0,)}


class Network(torch.nn.Module):
    """An embedding where there are words, one recurrent layer, and one output: a temperature, or the logit of a label."""

    def __init__(self, variant: str, *, weights: list[np.ndarray]) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(*weights[0].shape) if len(weights) == 6 else None
        kernel, recurrent_kernel, bias, head, head_bias = weights[-5:]
        self.recurrent = KINDS[variant](kernel.shape[0], UNITS, batch_first=True)
        self.head = torch.nn.Linear(UNITS, 1)
        gates = GATES[variant]
        biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        with torch.no_grad():
            if self.embedding is not None:
                self.embedding.weight.copy_(torch.tensor(weights[0]))
            self.recurrent.weight_ih_l0.copy_(_reordered(kernel.T, gates))
            self.recurrent.weight_hh_l0.copy_(_reordered(recurrent_kernel.T, gates))
            self.recurrent.bias_ih_l0.copy_(_reordered(biases[0], gates))
            self.recurrent.bias_hh_l0.copy_(_reordered(biases[1], gates))
            self.head.weight.copy_(torch.tensor(head.T))
            self.head.bias.copy_(torch.tensor(head_bias))
        # torch gives LSTM and RNN a second bias that adds to the first; Keras has one, so the second stays 0.
        self.recurrent.bias_hh_l0.requires_grad_(bias.ndim == 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return one number an example."""
        outputs, _ = self.recurrent(inputs if self.embedding is None else self.embedding(inputs))
        return self.head(outputs[:, -1])[:, 0]


def _reordered(matrix: np.ndarray, gates: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(np.concatenate([np.split(matrix, len(gates))[gate] for gate in gates]))


def main() -> None:
    """Train a few steps whenever asked."""
    folder, threads, dataset, variant = Path(sys.argv[1], sys.argv[4]), int(sys.argv[2]), *sys.argv[4:6]
    torch.manual_seed(0)
    if threads:
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)
    with np.load(folder / f"weights-{variant}.npz") as saved:
        model = Network(variant, weights=[saved[name] for name in saved.files])
    probe_inputs, probe_targets = (torch.from_numpy(np.load(folder / f"probe_{name}.npy")) for name in ("inputs", "targets"))
    if dataset == "jena":
        table, rows = torch.from_numpy(np.load(folder / "table.npy")), torch.from_numpy(np.load(folder / "train_rows.npy")).long()
        offsets = torch.arange(-LOOKBACK, 0, STEP)
        loss_of = torch.nn.L1Loss()
    else:
        reviews = torch.from_numpy(np.load(folder / "train_reviews.npy").astype(np.int64))
        labels = torch.from_numpy(np.load(folder / "train_labels.npy"))
        probe_inputs = probe_inputs.long()
        loss_of = torch.nn.BCEWithLogitsLoss()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.RMSprop(trained, lr=1e-3, alpha=0.9, eps=1e-7)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        if dataset == "jena":
            chosen = rows[torch.randint(len(rows), (BATCH_SIZE,))]
            return table[chosen[:, None] + offsets], table[chosen + DELAY, TEMPERATURE]
        chosen = torch.randint(len(reviews), (BATCH_SIZE,))
        return reviews[chosen], labels[chosen]

    def train(steps: int) -> dict[str, Any]:
        model.train()
        total = 0.0
        for step in range(steps + 1):
            if step == 1:  # the first step is left out, as with the others
                started = time.perf_counter()
            inputs, targets = batch()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(inputs), targets)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return {"seconds": time.perf_counter() - started, "steps": steps, "loss": total / (steps + 1)}

    def probe() -> dict[str, Any]:
        model.eval()
        with torch.no_grad():
            predicted = model(probe_inputs)
        predicted = predicted if dataset == "jena" else torch.sigmoid(predicted)
        return {"predicted": predicted.tolist(), "targets": probe_targets.tolist()}

    def describe() -> dict[str, Any]:
        return {"library": f"torch {torch.__version__}", "parameters": sum(weight.numel() for weight in trained)}

    answer_requests({"describe": describe, "probe": probe, "train": train})


if __name__ == "__main__":
    main()
