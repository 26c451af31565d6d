"""A residual network for rows of a table.

Numbers and their missing marks go in as they are, categories by embeddings; then come blocks of batch normalisation and
two linear layers around which the input is carried on.

Source: Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko, Revisiting Deep Learning Models for Tabular Data, NeurIPS
2021, section 3.2 (ResNet); arXiv:2106.11959.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TabularResNet(nn.Module):
    """From (B, F) float32 rows, laid out as `visionyard.transforms.rows` says, to (B, C) scores."""

    def __init__(
        self,
        *,
        number_count: int,
        id_counts: Sequence[int],
        class_count: int,
        width: int,
        depth: int,
        embedding_size: int,
        dropout: float,
    ) -> None:
        """Build it with random weights.

        Args:
            number_count: Columns of numbers, each of which has a missing mark too.
            id_counts: Ids of each other column.
            class_count: C.
            width: Values between blocks; twice as many within one.
            depth: Blocks.
            embedding_size: Values that stand for an id.
            dropout: Within blocks.
        """
        super().__init__()
        self.number_count = number_count
        counts = torch.tensor(list(id_counts), dtype=torch.int64)
        self.embedding = nn.Embedding(int(counts.sum()), embedding_size) if len(id_counts) else None
        if self.embedding is not None:
            bound = embedding_size**-0.5
            nn.init.uniform_(self.embedding.weight, -bound, bound)
        # Of the columns' ids one table is made, so that a row needs one look-up. Neither is learnt.
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("last_ids", (counts - 1).float(), persistent=False)
        self.first = nn.Linear(2 * number_count + embedding_size * len(id_counts), width)
        self.blocks = nn.Sequential(*(_Block(width, dropout) for _ in range(depth)))
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, class_count))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the scores of rows."""
        parts = rows[:, : 2 * self.number_count]
        if self.embedding is not None:
            # An id that no column has would be looked up beyond the table.
            ids = torch.minimum(rows[:, 2 * self.number_count :].clamp(min=0), self.get_buffer("last_ids"))
            places = ids.to(torch.int64) + self.get_buffer("starts")
            parts = torch.cat([parts, self.embedding(places).flatten(1)], dim=1)
        scores: Tensor = self.head(self.blocks(self.first(parts)))
        return scores


class _Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, values: Tensor) -> Tensor:
        summed: Tensor = values + self.layers(values)
        return summed
