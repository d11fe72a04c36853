"""Static checks of a graph in the flatbuffer, before anything is built of it.

A graph is tried in another process before it is run in this one (`edge.model.trust`). A trial
proves something only if the graph does the same at every run, with whatever audio. These checks see
to that: they admit operators of feed-forward networks alone, whose sizes are all in the file, but
for the length of a window where a model takes several: of these the trial runs the shortest and the
longest. No loops, calls or state; no contents in other files; no shape, slice or index that is
computed; nothing read that was not written before. Every offset that an interpreter would follow is
followed: ai-edge-litert verifies them itself, tflite-runtime 2.14 does not.

The schema classes of ai-edge-litert would read it, too. They are no part of tflite-runtime, cost
the start 40 ms on x86-64 and 4 MB, and build every table before the first can be looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Kinds of operators in the schema, with the operands that decide on a size or a place: these must
# be constants.
_OPERATORS: dict[int, tuple[int, ...]] = {
    0: (),  # ADD
    1: (),  # AVERAGE_POOL_2D
    2: (),  # CONCATENATION
    3: (),  # CONV_2D
    4: (),  # DEPTHWISE_CONV_2D
    5: (),  # DEPTH_TO_SPACE
    6: (),  # DEQUANTIZE
    8: (),  # FLOOR
    9: (),  # FULLY_CONNECTED
    11: (),  # L2_NORMALIZATION
    14: (),  # LOGISTIC
    17: (),  # MAX_POOL_2D
    18: (),  # MUL
    19: (),  # RELU
    20: (),  # RELU_N1_TO_1
    21: (),  # RELU6
    22: (1,),  # RESHAPE
    23: (1,),  # RESIZE_BILINEAR
    25: (),  # SOFTMAX
    26: (),  # SPACE_TO_DEPTH
    28: (),  # TANH
    34: (1,),  # PAD
    36: (1,),  # GATHER
    37: (1, 2),  # BATCH_TO_SPACE_ND
    38: (1, 2),  # SPACE_TO_BATCH_ND
    39: (1,),  # TRANSPOSE
    40: (1,),  # MEAN
    41: (),  # SUB
    42: (),  # DIV
    43: (),  # SQUEEZE
    45: (1, 2, 3),  # STRIDED_SLICE
    47: (),  # EXP
    49: (0,),  # SPLIT
    50: (),  # LOG_SOFTMAX
    53: (),  # CAST
    54: (),  # PRELU
    55: (),  # MAXIMUM
    57: (),  # MINIMUM
    58: (),  # LESS
    59: (),  # NEG
    60: (1, 2),  # PADV2
    61: (),  # GREATER
    62: (),  # GREATER_EQUAL
    63: (),  # LESS_EQUAL
    65: (1, 2),  # SLICE
    66: (),  # SIN
    67: (0,),  # TRANSPOSE_CONV
    69: (1,),  # TILE
    70: (1,),  # EXPAND_DIMS
    71: (),  # EQUAL
    72: (),  # NOT_EQUAL
    73: (),  # LOG
    74: (1,),  # SUM
    75: (),  # SQRT
    76: (),  # RSQRT
    78: (),  # POW
    82: (1,),  # REDUCE_MAX
    83: (),  # PACK
    84: (),  # LOGICAL_OR
    86: (),  # LOGICAL_AND
    87: (),  # LOGICAL_NOT
    88: (),  # UNPACK
    89: (1,),  # REDUCE_MIN
    92: (),  # SQUARE
    97: (1,),  # RESIZE_NEAREST_NEIGHBOR
    98: (),  # LEAKY_RELU
    99: (),  # SQUARED_DIFFERENCE
    100: (1,),  # MIRROR_PAD
    101: (),  # ABS
    102: (1, 2),  # SPLIT_V
    104: (),  # CEIL
    105: (1,),  # REVERSE_V2
    106: (),  # ADD_N
    108: (),  # COS
    111: (),  # ELU
    114: (),  # QUANTIZE
    117: (),  # HARD_SWISH
    123: (),  # SELECT_V2
    126: (),  # BATCH_MATMUL
    128: (1,),  # CUMSUM
    130: (1,),  # BROADCAST_TO
    150: (),  # GELU
}
_FIRST_OPTIONAL = 2  # operand: the bias of a convolution or a layer, which comes last
_BITS_BY_TYPE = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 9: 8, 17: 4}  # numbers, truths
_FLOAT16, _INT4 = 1, 17
_LAYER, _KERNEL = 9, 1  # a linear layer, and which of its operands may have 4 bits

# Far more than a network for this device has. The checks cost time by number, too.
_MAX_SUBGRAPHS = 8
_MAX_TENSORS = 10_000
_MAX_AXES = 8
_MAX_ENTRIES = 1_000  # of a vector
_MAX_ENTRIES_READ = 1_000_000  # of all: tables may share one, and each of them reads it
_MAX_TENSOR_BYTES = 64 << 20


# Matrices of 4 bits have a scale for so many inputs of an output, or for a multiple of these.
_BLOCKWISE, _FEWEST_IN_BLOCK, _AXES_OF_MATRIX = 2, 32, 2

_OTHERWISE_QUANTISED = "is quantised in a way that edgelid does not admit"
_FOUR_BITS_ELSEWHERE = "has 4 bits elsewhere than in the matrices of linear layers"
_OUTSIDE = "has contents outside the flatbuffer"
_LEADS_OUT = "has offsets that lead out of it"


class UnfitGraph(Exception):
    """Why a graph is not admitted, to follow "as it"."""


class _Allowance:
    """How many entries of vectors and tables may still be read of a graph."""

    def __init__(self) -> None:
        self._left = _MAX_ENTRIES_READ

    def spend(self, entries: int) -> None:
        self._left -= entries
        if self._left < 0:
            raise UnfitGraph(f"takes more than {_MAX_ENTRIES_READ} entries to read")


class _Table:
    """A table of a flatbuffer; what reading raises beside UnfitGraph is `struct.error`.

    Parameters
    ----------
    data : bytes
    position : int
        Where in it the table begins.
    allowance : _Allowance
        That all tables of the flatbuffer share.
    """

    def __init__(self, data: bytes, position: int, allowance: _Allowance) -> None:
        self._data = data
        self._position = position
        self._allowance = allowance
        self._slots = position - self._read("<i", position)
        self._slots_bytes = self._read("<H", self._slots)
        self._end = position + self._read("<H", self._slots + 2)
        if max(self._end, self._slots + self._slots_bytes) > len(data) or self._slots_bytes % 2:
            raise UnfitGraph(_LEADS_OUT)

    def _read(self, code: str, position: int) -> int:
        # Negative ones would count from the end, in Python; processors want numbers aligned.
        if position < 0 or position % struct.calcsize(code):
            raise UnfitGraph(_LEADS_OUT)
        value: int = struct.unpack_from(code, self._data, position)[0]
        return value

    def _find(self, slot: int) -> int | None:
        """Where a field is; None where it is left out."""
        at = 4 + 2 * slot
        if at >= self._slots_bytes:
            return None
        offset = self._read("<H", self._slots + at)
        if self._position + offset >= self._end:
            raise UnfitGraph(_LEADS_OUT)
        return self._position + offset if offset else None

    def _follow(self, position: int) -> int:
        """Where an offset leads to."""
        offset = self._read("<I", position)
        if offset == 0:
            raise UnfitGraph(_LEADS_OUT)
        return position + offset

    def integer(self, slot: int, code: str = "<I") -> int:
        """An integer field; all that are read here are zero by default."""
        position = self._find(slot)
        return 0 if position is None else self._read(code, position)

    def has(self, slot: int) -> bool:
        return self._find(slot) is not None

    def _vector(self, slot: int, item_bytes: int) -> tuple[int, int]:
        """Beginning and length of a vector that lies within the file."""
        position = self._find(slot)
        if position is None:
            return 0, 0
        position = self._follow(position)
        length = self._read("<I", position)
        start = position + 4
        if start + length * item_bytes > len(self._data) or (length and start % item_bytes):
            raise UnfitGraph(_LEADS_OUT)
        return start, length

    def length(self, slot: int, item_bytes: int = 1) -> int:
        """Items of a vector."""
        return self._vector(slot, item_bytes)[1]

    def check_string(self, slot: int) -> None:
        """That a string, if it is there, ends as those of C do."""
        start, length = self._vector(slot, 1)
        if start and self._data[start + length : start + length + 1] != b"\0":
            raise UnfitGraph(_LEADS_OUT)

    def check_numbers(self) -> None:
        """That all fields, whatever they are, begin within the table."""
        slots = (self._slots_bytes - 4) // 2
        self._allowance.spend(max(0, slots))
        for slot in range(slots):
            self._find(slot)

    def integers(self, slot: int) -> tuple[int, ...]:
        """A vector of int32."""
        start, length = self._vector(slot, 4)
        if length > _MAX_ENTRIES:
            raise UnfitGraph(f"has a list of more than {_MAX_ENTRIES} numbers")
        self._allowance.spend(length)
        return struct.unpack_from(f"<{length}i", self._data, start)

    def table(self, slot: int) -> _Table | None:
        """A table within this one."""
        position = self._find(slot)
        if position is None:
            return None
        return _Table(self._data, self._follow(position), self._allowance)

    def tables(self, slot: int, most: int) -> list[_Table]:
        """A vector of tables."""
        start, length = self._vector(slot, 4)
        if length > most:
            raise UnfitGraph(f"has more than {most} parts of one kind")
        positions = range(start, start + 4 * length, 4)
        return [_Table(self._data, self._follow(at), self._allowance) for at in positions]


# Kinds of options that have a vector, in the union of the schema.
_RESHAPE_OPTIONS, _SQUEEZE_OPTIONS = 17, 30


def check_graph(graph: bytes) -> None:
    """Refuse what a trial cannot vouch for.

    Parameters
    ----------
    graph : bytes
        TFLite flatbuffer.

    Raises
    ------
    UnfitGraph
        If it is damaged, or has operators or sizes that are not admitted.
    """
    try:
        model = _Table(graph, struct.unpack_from("<I", graph)[0], _Allowance())
        kinds = [_kind(code) for code in model.tables(1, _MAX_TENSORS)]
        buffers = [_constant_bytes(buffer) for buffer in model.tables(4, _MAX_TENSORS)]
        model.check_string(3)
        model.length(5, 4)
        # Newer interpreters would read them from files that the graph names.
        if model.length(8) or model.length(9):
            raise UnfitGraph(_OUTSIDE)
        for entry in model.tables(6, _MAX_TENSORS):
            entry.check_string(0)
            if entry.integer(1) >= len(buffers):
                raise UnfitGraph("refers to contents that it does not have")
        parts = model.tables(2, _MAX_SUBGRAPHS)
        for part in parts:
            _check_part(part, kinds, buffers)
        for signature in model.tables(7, _MAX_SUBGRAPHS):
            _check_signature(signature, parts)
    except struct.error as error:
        raise UnfitGraph(_LEADS_OUT) from error


def _kind(code: _Table) -> int:
    code.check_string(1)
    # Old files have the kind in a byte, new ones in both places.
    kind = max(code.integer(0, "<b"), code.integer(3, "<i"))
    if kind not in _OPERATORS:
        raise UnfitGraph(f"has an operator (number {kind}) that edgelid does not admit")
    return kind


def _constant_bytes(buffer: _Table) -> int:
    if buffer.integer(1, "<Q") > 1 or buffer.integer(2, "<Q") > 1:
        raise UnfitGraph(_OUTSIDE)
    return buffer.length(0)


def _check_signature(signature: _Table, parts: list[_Table]) -> None:
    signature.check_string(2)
    number = signature.integer(4)
    if number >= len(parts):
        raise UnfitGraph("has a signature of no graph")
    tensors = parts[number].length(0)
    named = [*signature.tables(0, _MAX_TENSORS), *signature.tables(1, _MAX_TENSORS)]
    for each in named:
        each.check_string(0)
        if each.integer(1) >= tensors:
            raise UnfitGraph("refers to tensors that it does not have")


def _check_part(part: _Table, kinds: list[int], buffers: list[int]) -> None:
    part.check_string(4)
    tensors = part.tables(0, _MAX_TENSORS)
    constant = [_is_constant(tensor, buffers) for tensor in tensors]
    four_bits = [
        _has_four_bits(tensor, is_constant, tensors, constant)
        for tensor, is_constant in zip(tensors, constant, strict=True)
    ]
    written = list(constant)  # or given from outside: what may be read
    for index in _indices(part.integers(1), tensors):
        if constant[index]:
            raise UnfitGraph("has inputs that are constants")
        written[index] = True
    for operator in part.tables(3, _MAX_TENSORS):
        number = operator.integer(0)
        if number >= len(kinds):
            raise UnfitGraph("has an operator of no kind")
        kind = kinds[number]
        inputs = operator.integers(1)
        for place, index in enumerate(inputs):
            if index == -1 and place == len(inputs) - 1 >= _FIRST_OPTIONAL:
                continue
            (index,) = _indices((index,), tensors)
            if not written[index]:
                raise UnfitGraph("reads what has not been computed yet")
            if place in _OPERATORS[kind] and not constant[index]:
                raise UnfitGraph(f"computes sizes or places (for operator number {kind})")
            if four_bits[index] and (kind, place) != (_LAYER, _KERNEL):
                raise UnfitGraph(_FOUR_BITS_ELSEWHERE)
        _check_options(operator)
        if operator.integers(8):
            raise UnfitGraph("has operators with memories of their own")
        for index in _indices(operator.integers(2), tensors):
            if written[index]:
                raise UnfitGraph("computes a tensor twice, or one that is given")
            written[index] = True
    for index in _indices(part.integers(2), tensors):
        if not written[index]:
            raise UnfitGraph("has outputs that it does not compute")
        if four_bits[index]:
            raise UnfitGraph(_FOUR_BITS_ELSEWHERE)


def _check_options(operator: _Table) -> None:
    if operator.has(5) or operator.has(12):
        raise UnfitGraph("has operators with options of a kind that edgelid does not admit")
    operator.length(7)
    options = operator.table(4)
    if (options is not None) != (operator.integer(3, "<B") != 0):
        raise UnfitGraph(_LEADS_OUT)
    if options is not None:
        options.check_numbers()
        if operator.integer(3, "<B") in (_RESHAPE_OPTIONS, _SQUEEZE_OPTIONS):
            options.integers(0)


def _indices(found: tuple[int, ...], tensors: list[_Table]) -> Iterator[int]:
    for index in found:
        if not 0 <= index < len(tensors):
            raise UnfitGraph("refers to tensors that it does not have")
        yield index


def _check_quantisation(parameters: _Table | None) -> None:
    if parameters is None:
        return
    parameters.check_numbers()
    for slot, item_bytes in ((0, 4), (1, 4), (2, 4), (3, 8)):  # of the last, 64 bits each
        parameters.length(slot, item_bytes)
    if parameters.integer(4, "<B") not in (0, _BLOCKWISE) or (
        parameters.has(5) != (parameters.integer(4, "<B") == _BLOCKWISE)
    ):
        raise UnfitGraph(_OTHERWISE_QUANTISED)


def _has_four_bits(
    tensor: _Table, is_constant: bool, tensors: list[_Table], constant: list[bool]
) -> bool:
    """Whether a tensor is a matrix of 4 bits; that it is one whose blocks have scales, and that no
    other tensor has blocks.
    """
    parameters = tensor.table(4)
    blocks = None if parameters is None else parameters.table(5)
    is_narrow = tensor.integer(1, "<b") == _INT4
    if blocks is None and not is_narrow:
        return False
    if blocks is None or not is_narrow:
        raise UnfitGraph(_OTHERWISE_QUANTISED)
    scales, zeros, inputs = (blocks.integer(slot, "<i") for slot in range(3))
    (scales,) = _indices((scales,), tensors)
    shape, of_blocks = tensor.integers(0), tensors[scales]
    if (
        not is_constant
        or not constant[scales]
        or of_blocks.integer(1, "<b") != _FLOAT16
        or zeros != -1  # none
        or inputs < _FEWEST_IN_BLOCK
        or inputs % _FEWEST_IN_BLOCK
        or blocks.has(3)
        or len(shape) != _AXES_OF_MATRIX
        or shape[1] % inputs
        or of_blocks.integers(0) != (shape[0], shape[1] // inputs)
    ):
        raise UnfitGraph(_OTHERWISE_QUANTISED)
    return True


def _is_constant(tensor: _Table, buffers: list[int]) -> bool:
    """Check the size of a tensor; whether its contents are in the file."""
    tensor.check_string(3)
    tensor.integers(7)
    _check_quantisation(tensor.table(4))
    bits = _BITS_BY_TYPE.get(tensor.integer(1, "<b"))
    if bits is None:
        raise UnfitGraph("has tensors of something else than numbers")
    if tensor.integer(10):
        raise UnfitGraph(_OUTSIDE)
    if tensor.integer(5, "<b") or tensor.has(6) or tensor.length(9):
        raise UnfitGraph("has tensors that are variables, or sparse")
    shape = tensor.integers(0)
    if len(shape) > _MAX_AXES:
        raise UnfitGraph(f"has tensors of more than {_MAX_AXES} axes")
    for length in shape:
        if length < 1:
            raise UnfitGraph("has tensors without a fixed size")
        bits *= length
    size_bytes = -(-bits // 8)
    if size_bytes > _MAX_TENSOR_BYTES:
        raise UnfitGraph(f"has a tensor larger than {_MAX_TENSOR_BYTES >> 20} MiB")
    number = tensor.integer(2)
    if number >= len(buffers):
        raise UnfitGraph("refers to contents that it does not have")
    if buffers[number] not in (0, size_bytes):
        raise UnfitGraph("has contents that do not fill their tensor")
    return buffers[number] > 0
