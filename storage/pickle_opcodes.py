"""Which instructions a pickle of lists of numbers consists of, and how much they may allocate, before any of them runs.

The unpickler of Python allocates what an instruction names: a memo of 300 million entries, a string of a gigabyte. The bytes of
the file do not bound that. So the instructions are walked first: those of lists and numbers, of which a file has millions, by
one regular expression, and the few others one by one.
"""

from __future__ import annotations

import re

MAX_OTHERS = 200
"""Bound on instructions that are neither of lists nor of numbers: the header and the end of an array have about 30."""

MAX_TEXT_BYTES = 256

# Small numbers; a mark, an empty list, the end of a list; a place in the memo below 2**24. Possessive, so that nothing is
# remembered for a way back.
_LISTS_AND_NUMBERS = re.compile(rb"(?:K.|M..|J.{4}|\(|\]|e|a|q.|r...\x00|\x94|h.|j...\x00|G.{8}|\x88|\x89)*+", re.DOTALL)
_NUMBERS = {b"K": 1, b"M": 2, b"J": 4, b"q": 1, b"r": 4, b"h": 1, b"j": 4, b"G": 8}
_FIXED = {
    b"\x80": 1,  # PROTO
    b"}": 0,  # EMPTY_DICT
    b")": 0,  # EMPTY_TUPLE
    b"t": 0,  # TUPLE
    b"\x85": 0,  # TUPLE1
    b"\x86": 0,  # TUPLE2
    b"\x87": 0,  # TUPLE3
    b"N": 0,  # NONE
    b"R": 0,  # REDUCE
    b"b": 0,  # BUILD
    b"s": 0,  # SETITEM
    b"u": 0,  # SETITEMS
    b"l": 0,  # LIST
    b"0": 0,  # POP
    b"1": 0,  # POP_MARK
    b"d": 0,  # DICT
    b"2": 0,  # DUP
    b"o": 0,  # OBJ
    b"\x81": 0,  # NEWOBJ
    b"\x92": 0,  # NEWOBJ_EX
    b"\x82": 1,  # EXT1
    b"\x83": 2,  # EXT2
    b"\x84": 4,  # EXT4
    b"\x8f": 0,  # EMPTY_SET
    b"\x90": 0,  # ADDITEMS
    b"\x91": 0,  # FROZENSET
    b"\x93": 0,  # STACK_GLOBAL
    b"\x95": 8,  # FRAME
    b"Q": 0,  # BINPERSID
}
_COUNTED = {
    b"U": 1,  # SHORT_BINSTRING
    b"C": 1,  # SHORT_BINBYTES
    b"\x8c": 1,  # SHORT_BINUNICODE
    b"\x8a": 1,  # LONG1
    b"T": 4,  # BINSTRING
    b"B": 4,  # BINBYTES
    b"X": 4,  # BINUNICODE
    b"\x8b": 4,  # LONG4
    b"\x8d": 8,  # BINUNICODE8
    b"\x8e": 8,  # BINBYTES8
    b"\x96": 8,  # BYTEARRAY8
}
_LINES = {b"c": 2, b"I": 1, b"L": 1, b"F": 1, b"S": 1, b"V": 1, b"p": 1, b"g": 1, b"i": 2, b"P": 1}
_MAX_DIGITS = 8
_STOP = b"."


class RefusedPickleError(Exception):
    """A pickle asks for something that no array of lists needs."""


def check_opcodes(body: bytes) -> None:
    """Walk the instructions of a pickle.

    Raises:
        RefusedPickleError: It has an instruction that no array of lists needs, too many that are rare, or a text or a place in
            the memo that would take memory out of proportion.
        ValueError: It ends in the middle of an instruction.
    """
    position = 0
    for _ in range(MAX_OTHERS):
        run = _LISTS_AND_NUMBERS.match(body, position)
        position = run.end() if run else position
        opcode = body[position : position + 1]
        position += 1
        if opcode == _STOP:
            return
        position = _argument_end(opcode, body=body, position=position)
        if position > len(body):
            raise ValueError("the pickle ends in the middle of an instruction")
    raise RefusedPickleError(f"more than {MAX_OTHERS} instructions that are not of lists and numbers")


def _argument_end(opcode: bytes, *, body: bytes, position: int) -> int:
    """Return where the argument of an instruction ends."""
    if opcode in _FIXED:
        return position + _FIXED[opcode]
    if opcode in _COUNTED:
        width = _COUNTED[opcode]
        size = int.from_bytes(body[position : position + width], "little")
        if size > MAX_TEXT_BYTES:
            raise RefusedPickleError(f"a text or number of {size:,} bytes")
        return position + width + size
    if opcode in _LINES:
        return _lines_end(opcode, body=body, position=position)
    if not opcode:
        raise ValueError("the pickle has no end")
    if opcode in _NUMBERS:  # the expression has not matched it
        if len(body) - position < _NUMBERS[opcode]:
            raise ValueError("the pickle ends in the middle of an instruction")
        raise RefusedPickleError(f"a place in the memo beyond {2**24:,}")
    raise RefusedPickleError(f"the instruction {opcode!r}")


def _lines_end(opcode: bytes, *, body: bytes, position: int) -> int:
    for _ in range(_LINES[opcode]):
        end = body.find(b"\n", position, position + MAX_TEXT_BYTES)
        if end < 0:
            raise RefusedPickleError(f"a line of more than {MAX_TEXT_BYTES} bytes")
        if opcode in b"pg" and end - position > _MAX_DIGITS:
            raise RefusedPickleError("a place in the memo of more than eight digits")
        position = end + 1
    return position
