"""AES-256-CTR keystreams as arrays of words: the masks themselves (PROTOCOLS A8).

``PRG(seed)[k]`` is little-endian word k of the keystream under key = seed whose counter block starts at zero and counts
up big-endian. A `Keystream` is the position in one such stream; a `KeystreamBlock` is the scratch memory through which
many of them are read in turn, so that the words of one block stay in the processor's cache while every neighbour's
stream is added to it.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from shared.errors import Misuse

Words = NDArray[np.unsignedinteger]
"""Words of the protocol: little-endian uint16 or uint32, all arithmetic wraps."""


class Keystream:
    """One AES-256-CTR keystream, read from a given byte on. Each key makes exactly one stream."""

    __slots__ = ("encrypt_into",)

    def __init__(self, key: bytes, start_byte: int = 0) -> None:
        """Open the stream of `key` (32 bytes) at `start_byte`, a multiple of 16.

        Raises:
            Misuse: ``key_length``, ``stream_position``.
        """
        if len(key) != 32:
            raise Misuse("key_length", f"a keystream key has 32 bytes, not {len(key)}")
        if start_byte < 0 or start_byte % 16:
            raise Misuse("stream_position", f"a keystream starts at a multiple of 16 bytes, not at {start_byte}")
        counter = (start_byte // 16).to_bytes(16, "big")
        self.encrypt_into = Cipher(AES(key), CTR(counter)).encryptor().update_into


class KeystreamBlock:
    """Preallocated memory for reading streams one block at a time; belongs to one thread."""

    __slots__ = ("_bytes", "_out", "_words", "_zeros", "capacity")

    def __init__(self, word: np.dtype[np.unsignedinteger], capacity: int) -> None:
        """Allocate for blocks of up to `capacity` words of type `word`."""
        self.capacity = capacity
        size = capacity * word.itemsize
        self._zeros = memoryview(bytes(size))
        self._bytes = word.itemsize
        out = np.empty(size + 16, np.uint8)  # the cipher insists on room for one block more than it writes
        self._out = out.data
        self._words: Words = out[:size].view(word)

    def next_words(self, stream: Keystream, count: int) -> Words:
        """Return the next `count` words of `stream`; valid until the next call. Releases the interpreter lock.

        Raises:
            Misuse: ``stream_position`` for more words than the block holds.
        """
        if count > self.capacity:
            raise Misuse("stream_position", f"a block of {self.capacity} words cannot hold {count}")
        stream.encrypt_into(self._zeros[: count * self._bytes], self._out)
        return self._words[:count]

    def add_into(self, words: Words, plus: Sequence[Keystream], minus: Sequence[Keystream]) -> None:
        """Add the next words of each stream in `plus` to `words` and subtract those of `minus`.

        Raises:
            Misuse: ``stream_position`` for more words than the block holds.
        """
        if len(words) > self.capacity:
            raise Misuse("stream_position", f"a block of {self.capacity} words cannot hold {len(words)}")
        zeros, out, masks = self._zeros[: len(words) * self._bytes], self._out, self._words[: len(words)]
        for stream in plus:
            stream.encrypt_into(zeros, out)
            np.add(words, masks, out=words)
        for stream in minus:
            stream.encrypt_into(zeros, out)
            np.subtract(words, masks, out=words)


def keystream_words(key: bytes, word: np.dtype[np.unsignedinteger], start: int, count: int) -> Words:
    """Return words `start` to ``start + count`` of the stream of `key` in an array of their own.

    Raises:
        Misuse: ``stream_position`` when `start` is not at a multiple of 16 bytes.
    """
    return KeystreamBlock(word, count).next_words(Keystream(key, start * word.itemsize), count)
