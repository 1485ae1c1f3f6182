"""The Huffman code of HPACK (RFC 7541 section 5.2), a byte at a time.

Between two bytes the decoder stands at a node of the code's tree: the bits of a symbol that has begun. Each node has a
row: for each next byte, which symbols are complete with it, and the row of the node that it leads to. All 256 rows hold
65,536 steps; making them takes tens of milliseconds and 5 MB. So a row is empty until it is first used, which is found
by the `IndexError`: the loop does not ask. Texts as browsers send them use some sixty rows.
"""

from __future__ import annotations

from typing import TypeAlias

from fairway.protocols.http2.hpack.tables import EOS, HUFFMAN_CODES

Node: TypeAlias = list["Node"] | int
"""Of the code's tree: what a 0 and a 1 lead to, or a symbol."""

Row: TypeAlias = list[tuple[bytes, "Row"]]
"""256 steps: the symbols that are complete, and the next row."""


def _tree() -> list[Node]:
    root: list[Node] = []
    for symbol, (code, length) in enumerate(HUFFMAN_CODES):
        node = root
        for bit in range(length - 1, -1, -1):
            side = code >> bit & 1
            while len(node) <= side:
                node.append([])
            if bit == 0:
                node[side] = symbol
            else:
                below = node[side]
                assert isinstance(below, list)
                node = below
    return root


class _Rows:
    """The rows of all nodes, and where a string may end.

    The bits behind the last symbol are padding, which is fewer than 8 bits, all of them 1: the beginning of EOS.
    """

    def __init__(self) -> None:
        self._tree = _tree()
        self._rows: dict[int, Row] = {}
        self._nodes: dict[int, list[Node]] = {}
        self.first = self._row_of(self._tree)
        self.failed: Row = []  # behind EOS, which must not be in a string: leads to nothing else
        self.failed += [(b"", self.failed)] * 256
        self._ends = set()
        node: Node = self._tree
        for _ in range(8):
            assert isinstance(node, list)
            self._ends.add(id(self._row_of(node)))
            node = node[1]

    def _row_of(self, node: list[Node]) -> Row:
        row = self._rows.get(id(node))
        if row is None:
            row = self._rows[id(node)] = []
            self._nodes[id(row)] = node
        return row

    def may_end(self, row: Row) -> bool:
        return id(row) in self._ends

    def fill(self, row: Row) -> None:
        steps: Row = []
        self._walk(self._nodes[id(row)], 8, b"", steps)
        row += steps

    def _walk(self, node: list[Node], bits: int, symbols: bytes, steps: Row) -> None:
        """Add the steps of all bytes that begin as the one that has led here, of which so many bits are left."""
        if not bits:
            steps.append((symbols, self._row_of(node)))
            return
        for below in node:
            if isinstance(below, list):
                self._walk(below, bits - 1, symbols, steps)
            elif below == EOS:
                steps += [(b"", self.failed)] * (1 << bits - 1)
            else:
                self._walk(self._tree, bits - 1, symbols + bytes((below,)), steps)


_rows = _Rows()


def decode(data: bytes) -> bytes:
    """Return the string; `ValueError` if it holds EOS, or its padding is not the shortest one of only 1s."""
    while True:
        row = _rows.first
        parts = []
        try:
            for byte in data:
                part, row = row[byte]
                parts.append(part)
            break
        except IndexError:
            _rows.fill(row)
    if not _rows.may_end(row):
        raise ValueError("a Huffman-coded string with EOS in it, or with wrong padding")
    return b"".join(parts)
