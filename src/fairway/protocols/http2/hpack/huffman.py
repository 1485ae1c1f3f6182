"""The Huffman code of HPACK (RFC 7541 section 5.2), decoded one byte at a time.

Between two bytes the decoder is at a node of the code's tree, which stands for the bits of an unfinished symbol. Each
node has a row of 256 steps. The step for the next byte says which symbols the byte completes, and which node's row
comes next. All rows together have 65,536 steps; making them takes tens of milliseconds and 5 MB. So a row stays empty
until its first use. The loop does not check for that: an empty row raises `IndexError`. Texts that browsers send use
about sixty rows.
"""

from __future__ import annotations

from typing import TypeAlias

from fairway.protocols.http2.hpack.tables import EOS, HUFFMAN_CODES

Node: TypeAlias = list["Node"] | int
"""A node of the code's tree: the nodes that a 0 and a 1 lead to, or a symbol."""

Row: TypeAlias = list[tuple[bytes, "Row"]]
"""256 steps: the symbols that the byte completes, and the next row."""


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
    """The rows of all nodes, and the nodes at which a string may end.

    Behind its last symbol a string is padded with fewer than 8 bits, all of them 1: the beginning of EOS.
    """

    def __init__(self) -> None:
        self._tree = _tree()
        self._rows: dict[int, Row] = {}
        self._nodes: dict[int, list[Node]] = {}
        self.first = self._row_of(self._tree)
        self.failed: Row = []  # the row behind EOS, which must not occur in a string: it only leads to itself
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
        """Add the steps of all bytes that share the bits taken so far. `bits` is how many bits of a byte are left."""
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
    """Return the decoded string. Raises `ValueError` if it contains EOS, or is not padded with 0 to 7 bits of 1."""
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
