"""Exact nearest neighbours: float32 products find the candidates, float64 decides wherever rounding could.

For a query q the neighbours b are ranked by s = -|q - b|²/2 = q·b - |q|²/2 - |b|²/2, which one matrix product gives for
a whole tile, and for both directions at once where vectors are searched among themselves. Rounding moves s by at most
e = g (|q||b| + |q|²/2 + |b|²/2), and the vectors are centred first to keep the norms small. What is selected are the
largest upper bounds u = s + e, which the same product gives: no vector that is left out can have a larger s than the
smallest of them. Where these bounds settle the order, that is the answer; where they do not, distances of the
candidates are computed in float64 from differences; and where more vectors than the candidates could still be among the
nearest (duplicates, say), all of those.

A tile is sifted by one comparison with the standards of its queries, the least of the bounds kept so far, so that only
the few that pass are ever sorted. Tiles are shared out to threads, each with a product of its own.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product as pairs_of
from threading import Lock, local
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaebench.core.errors import DataError, NumericalError, TooFewSamples
from vaebench.core.products import matmul, prefer_onednn
from vaebench.metrics.base import ArrayLike
from vaebench.metrics.probing.threads import workers

Distance = Literal["euclidean", "cosine"]

# Rows of a tile where both sides stay in memory, and where blocks are read again for every block of the other side.
BLOCK, LARGE_BLOCK = 1024, 4096
SPARE = 4
# Columns that set the first standard; and more than so many for each query that pass a sieve say it was too coarse.
FIRST = 256
PREPARED_BYTES = 2**30
EXACT_ELEMENTS = 2**20
# Products of fewer elements are done before threads have started.
SMALL = 2**27
HALF_ULP = 2.0**-24


def nearest_neighbours(
    queries: ArrayLike,
    bank: ArrayLike | None = None,
    *,
    k: int,
    distance: Distance = "euclidean",
    device: str = "cpu",
) -> np.ndarray:
    """Indices of the k nearest vectors of a bank, nearest first, ties by index.

    "euclidean" ranks by |q - b|², "cosine" by 1 - q·b / |q||b|, which is half the former of the vectors at unit length.
    The answer is that of float64 arithmetic; the rounding bound behind it is probabilistic (ten standard deviations).
    Memory is bounded by tiles, and by twice 1 GiB for each side as float32, above which its blocks are read again for
    every block of the other side.

    Args:
        queries: (m, ...), flattened beyond the first axis.
        bank: (n, ...) of the same size per row, or None to search among the queries without the query itself.
        k: neighbours per query.
        distance: see above.
        device: torch device of the products.

    Returns:
        int64 (m, k).

    Raises:
        TooFewSamples: fewer than k vectors to find.
        DataError: sides of different width.
        NumericalError: NaN or infinity; for "cosine" a vector of length zero.

    Source of the rounding bound: Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis (2019).
    """
    n = (queries if bank is None else bank).shape[0]
    found = n - 1 if bank is None else n
    if not 1 <= k <= found:
        raise TooFewSamples(f"{k} neighbours cannot be found among {max(found, 0)} vectors.", "Ask for fewer.")
    width = int(np.prod(queries.shape[1:]))
    if bank is not None and int(np.prod(bank.shape[1:])) != width:
        raise DataError(f"Vectors of {width} values cannot be compared with {int(np.prod(bank.shape[1:]))}.")
    many = queries.shape[0] * n * width > SMALL and device == "cpu"
    with workers(many) as threads:
        target = _Side(queries if bank is None else bank, distance, device, threads)
        source = target if bank is None else _Side(queries, distance, device, threads, target.centre)
        return _Search(source, target, k, min(k + SPARE, found), threads).run()


class _Block(NamedTuple):
    """Centred rows as factors of upper bounds: ``left`` of queries times ``right`` of neighbours, transposed, is u.

    Beside the vector x, (1 - g) |x|²/2 =: h and sqrt(g) |x|, left holds (-h, 1) and right (1, -h).
    """

    left: Tensor
    right: Tensor


class _Side:
    """Vectors as the search sees them: flattened, at unit length for cosine distances, centred."""

    def __init__(
        self,
        values: ArrayLike,
        distance: Distance,
        device: str,
        threads: ThreadPoolExecutor,
        centre: Tensor | None = None,
    ) -> None:
        self.values, self.distance, self.device = values, distance, device
        self.rows, self.width = int(values.shape[0]), int(np.prod(values.shape[1:]))
        self.g = rounding(self.width)
        small = 4 * self.rows * self.width <= PREPARED_BYTES
        self.parts = _parts(self.rows, BLOCK if small else LARGE_BLOCK)
        # Any centre gives the same distances, so that a subset of a large bank serves.
        self.centre = self.exact(self.parts[0]).mean(0) if centre is None else centre
        self.lengths = np.empty(self.rows, np.float32)
        self.prepared: list[_Block] | None = None
        blocks = threads.map(self._prepare, self.parts)
        if small:
            self.prepared = list(blocks)
        else:
            all(True for _ in blocks)  # for the lengths

    def exact(self, rows: slice | np.ndarray) -> Tensor:
        """float64 (r, width), not centred."""
        block = torch.from_numpy(np.asarray(self.values[rows], np.float64)).to(self.device).flatten(1)
        if not torch.isfinite(block.sum()):
            raise NumericalError("Vectors to search among hold NaN or infinity.", "Check the latents.")
        if self.distance == "cosine":
            length = torch.linalg.vector_norm(block, dim=1, keepdim=True)
            if not (length > 0).all():
                raise NumericalError("A vector of length zero has no direction.", "Use euclidean distances.")
            block = block / length
        return block

    def block(self, number: int) -> _Block:
        """The rows of a part."""
        return self._prepare(self.parts[number]) if self.prepared is None else self.prepared[number]

    def _prepare(self, part: slice) -> _Block:
        left = torch.ones(part.stop - part.start, self.width + 3, device=self.device)
        left[:, :-3] = self.exact(part) - self.centre
        squares = left[:, :-3].square().sum(1)
        self.lengths[part] = squares.sqrt().cpu().numpy()
        left[:, -3] = (self.g * squares).sqrt()
        left[:, -2] = squares * (-(1 - self.g) / 2)
        right = left.clone()
        right[:, -2:] = left[:, -2:].flip(1)
        return _Block(left, right)


class _Search:
    """The best bounds so far of every query, and which vectors have them: keys (m, candidates), in no order.

    A key is a bound, as an integer of the same order, above the number of its vector: one number to compare and move.
    """

    def __init__(self, source: _Side, target: _Side, k: int, candidates: int, threads: ThreadPoolExecutor) -> None:
        self.source, self.target, self.k, self.candidates, self.threads = source, target, k, candidates, threads
        self.among_itself = source is target
        self.keys = np.zeros((source.rows, candidates), np.uint64)  # below that of any bound
        self.standards = np.full(source.rows, -np.inf, np.float32)
        self.locks = [Lock() for _ in source.parts]
        self.own = local()

    def run(self) -> np.ndarray:
        rows, columns = len(self.source.parts), len(self.target.parts)
        if self.among_itself:  # each part among itself sets standards; the transpose of a tile needs no other product
            first: Iterable[tuple[int, int]] = zip(range(rows), range(rows), strict=True)
            later = [(r, c) for c in range(columns) for r in range(c)]
        else:
            first = ((r, 0) for r in range(rows))
            later = [(r, c) for c, r in pairs_of(range(1, columns), range(rows))]
        for tiles in (first, later):
            all(True for _ in self.threads.map(lambda tile: self._look(*tile), tiles))
        return np.concatenate(list(self.threads.map(self._decide, range(rows))))

    def _look(self, row: int, column: int) -> None:
        """Find and keep what is near in a tile."""
        rows, columns = self.source.parts[row], self.target.parts[column]
        tile = self._product(self.source.block(row).left, self.target.block(column).right)
        mirrored = self.among_itself and row != column
        if self.among_itself and not mirrored:
            tile.fill_diagonal_(-torch.inf)
        self._keep(tile, row, rows, columns.start)
        if mirrored:
            self._keep(tile.T, column, columns, rows.start)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """left @ right.T, until the next one of this thread."""
        if left.device.type != "cpu":
            return left @ right.T
        if prefer_onednn():
            return matmul(left, right.T)
        # NumPy's product is a third faster than torch's on one thread of a processor without AVX-512; memory that is
        # used again need not be mapped again.
        return torch.from_numpy(np.matmul(left.numpy(), right.numpy().T, out=self._room(np.float32, left, right)))

    def _room(self, kind: type, left: Tensor, right: Tensor) -> np.ndarray:
        rooms = self.own.__dict__.setdefault("rooms", {})
        size = len(left) * len(right)
        if kind not in rooms or rooms[kind].size < size:
            rooms[kind] = np.empty(size, kind)
        return np.asarray(rooms[kind][:size].reshape(len(left), len(right)))

    def _keep(self, tile: Tensor, number: int, rows: slice, start: int) -> None:
        """Merge the best of a tile of bounds (rows, columns from ``start``) into the best so far."""
        standards = self.standards[rows]
        if not np.isfinite(standards).all() and tile.shape[1] > self.candidates:
            standards = np.maximum(standards, _coarse_standards(tile, self.candidates))
        row, column, values = self._above(tile, standards)
        if len(row) > FIRST * len(standards):  # the standards were too low to sift
            best = tile.topk(min(self.candidates, tile.shape[1]), dim=1)
            column, values = (part.cpu().numpy().ravel() for part in (best.indices, best.values))
            row = np.repeat(np.arange(len(standards)), best.indices.shape[1])
        if len(row):
            with self.locks[number]:
                self._merge(rows, row, _packed(values, column + start))

    def _above(self, tile: Tensor, standards: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (ascending), columns and values of what is larger than its row's standard."""
        if tile.device.type != "cpu":
            above = torch.nonzero(tile > torch.from_numpy(standards).to(tile.device)[:, None], as_tuple=True)
            row, column, values = (part.cpu().numpy() for part in (*above, tile[above]))
            return row, column, values
        turned = not tile.is_contiguous()  # looked through as it lies in memory
        lying, against = (tile.T, standards) if turned else (tile, standards[:, None])
        mask = np.greater(lying.numpy(), against, out=self._room(np.bool_, lying, lying.T))
        # NumPy skips eight false elements at a time.
        places = np.flatnonzero(mask)
        row, column = np.divmod(places, lying.shape[1])
        values = lying.numpy().ravel()[places]
        if not turned:
            return row, column, values
        order = np.argsort(column, kind="stable")
        return column[order], row[order], values[order]

    def _merge(self, rows: slice, row: np.ndarray, keys: np.ndarray) -> None:
        """Merge keys, of queries ``row`` from the first of ``rows``, ascending."""
        counts = np.bincount(row)
        touched = np.flatnonzero(counts)
        counts = counts[touched]
        every = np.zeros((len(touched), self.candidates + int(counts.max())), np.uint64)
        mine = rows.start + touched
        every[:, : self.candidates] = self.keys[mine]
        first = np.arange(len(touched)) * every.shape[1] + self.candidates - (np.cumsum(counts) - counts)
        every.ravel()[np.repeat(first, counts) + np.arange(len(row))] = keys
        every.partition(every.shape[1] - self.candidates, axis=1)
        best = every[:, -self.candidates :]
        self.keys[mine] = best
        self.standards[mine] = _unpacked(best[:, 0])[0]

    def _decide(self, number: int) -> np.ndarray:
        """The neighbours of these queries, all tiles seen."""
        k, rows = self.k, self.source.parts[number]
        bounds, indices = _unpacked(np.sort(self.keys[rows], axis=1)[:, ::-1])
        result = indices[:, :k].copy()
        lengths, own = self.target.lengths[indices], self.source.lengths[rows, None]
        error = self.target.g * (own * lengths + (own**2 + lengths**2) / 2)
        settled = bounds[:, :-1] - 2 * error[:, :-1] > bounds[:, 1:]
        unsettled = np.flatnonzero(~settled[:, :k].all(1))
        if not len(unsettled):
            return result
        # Candidates between which the bounds do not decide form runs; distances decide within a run.
        apart = np.pad(settled[unsettled], ((0, 0), (1, 1)), constant_values=True)
        run = np.cumsum(apart[:, :-1], axis=1)
        needed = ~(apart[:, :-1] & apart[:, 1:]) & (run <= run[:, [k - 1]])
        places, exact = indices[unsettled], np.zeros(needed.shape)
        exact[needed] = self._distances(rows.start + unsettled[needed.nonzero()[0]], places[needed])
        order = np.lexsort((places, exact, run), axis=1)[:, :k]
        result[unsettled] = np.take_along_axis(places, order, 1)
        # Another vector could be as near as the k-th where that is as near as the last candidate's bound allows.
        if self.candidates < self.target.rows - self.among_itself:
            last = np.take_along_axis(exact, order[:, -1:], 1)[:, 0]
            open_ = (run[:, k - 1] == run[:, -1]) & (-last / 2 <= bounds[unsettled, -1])
            for at in np.flatnonzero(open_):
                result[unsettled[at]] = self._among_all(number, int(rows.start + unsettled[at]), float(-last[at] / 2))
        return result

    def _distances(self, queries: np.ndarray, others: np.ndarray) -> np.ndarray:
        """|q - b|² in float64 (p,) of pairs of row numbers, from differences, so that equal vectors tie."""
        result = np.empty(len(others))
        at_once = max(1, EXACT_ELEMENTS // self.source.width)
        for start in range(0, len(others), at_once):
            here = slice(start, start + at_once)
            first, second = _gather(self.source, queries[here]), _gather(self.target, others[here])
            result[here] = first.sub_(second).square_().sum(1).cpu().numpy()
        return result

    def _among_all(self, number: int, query: int, reach: float) -> np.ndarray:
        """Neighbours of one query among all vectors whose upper bound is at least ``reach``."""
        vector = self.source.block(number).left[query - self.source.parts[number].start]
        near = []
        for column, part in enumerate(self.target.parts):
            bounds = self.target.block(column).right @ vector
            near.append(part.start + torch.nonzero(bounds >= reach)[:, 0].cpu().numpy())
        others = np.concatenate(near)
        if self.among_itself:
            others = others[others != query]
        distances = self._distances(np.full(len(others), query), others)
        return np.asarray(others[np.lexsort((others, distances))[: self.k]])


def rounding(width: int) -> float:
    """g: a float32 product q·b, less half the squared lengths, is wrong by at most g (|q||b| + |q|²/2 + |b|²/2)."""
    return (10 * width**0.5 + 16) * HALF_ULP


def _coarse_standards(tile: Tensor, candidates: int) -> np.ndarray:
    """What at least ``candidates`` of each row (of more columns than that) lie above, from some of the columns."""
    some = tile[:, : max(FIRST, candidates + 1)]
    found = some.topk(candidates, dim=1).values[:, -1].cpu().numpy() if some.is_cuda else _kth(some.numpy(), candidates)
    return np.nextafter(found, np.float32(-np.inf))


def _kth(values: np.ndarray, k: int) -> np.ndarray:
    return np.partition(values, values.shape[1] - k, axis=1)[:, -k]


def _packed(bounds: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Keys of float32 bounds and the numbers of their vectors, below 2^32."""
    bits = bounds.view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(2**31)).astype(np.uint64)
    return (ordered << np.uint64(32)) | numbers.astype(np.uint64)


def _unpacked(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds and numbers of keys; a key of 0 is not a number, and no vector's."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bounds = np.where(ordered >> 31, ordered & np.uint32(2**31 - 1), ~ordered).view(np.float32)
    return np.where(keys > 0, bounds, np.float32(-np.inf)), (keys & np.uint64(2**32 - 1)).astype(np.int64)


def _gather(side: _Side, numbers: np.ndarray) -> Tensor:
    if isinstance(side.values, np.ndarray):
        return side.exact(numbers)
    # HDF5 reads increasing, distinct rows only.
    distinct, back = np.unique(numbers, return_inverse=True)
    return side.exact(distinct)[torch.from_numpy(back).to(side.device)]


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
