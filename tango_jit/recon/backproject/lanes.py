"""Sixteen numbers at a time: LLVM's vectors, written as arithmetic.

For what the compiler does not vectorise by itself: loads from computed places, products of 16-bit numbers summed in
pairs. LLVM turns sixteen lanes into what the processor has: one register of AVX-512, two of AVX2, four of NEON, and
loads of single numbers where it knows no gather.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

LANES = 16

SHORT, INT, FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
# All but "nnan" and "ninf": what lies behind the source is computed too, before it is masked.
_FAST = ("contract", "reassoc", "nsz", "arcp", "afn")


def _vector(element: Any, lanes: int = LANES) -> ir.VectorType:
    return ir.VectorType(element, lanes)


_MASK = _vector(ir.IntType(1))


def _address(builder: ir.IRBuilder, data: Any, at: Any) -> Any:
    """Of sixteen float32 from data[at] on."""
    return builder.bitcast(builder.gep(data, [at]), _vector(FLOAT).as_pointer())


class Lanes:
    """Sixteen float32, int32 or truths, and the arithmetic of their kind; a number means sixteen of it."""

    def __init__(self, builder: Any, value: Any) -> None:
        self._b, self.value = builder, value
        self._floating = value.type.element == FLOAT

    @classmethod
    def of(cls, builder: ir.IRBuilder, scalar: Any) -> Lanes:
        """The same LLVM scalar in every lane: a float, an i32, or an i64 that is cut back."""
        if isinstance(scalar.type, ir.IntType) and scalar.type.width > INT.width:
            scalar = builder.trunc(scalar, INT)
        none = ir.Constant(_vector(scalar.type), ir.Undefined)
        first = builder.insert_element(none, scalar, INT(0))
        return cls(builder, builder.shuffle_vector(first, none, ir.Constant(_vector(INT), [0] * LANES)))

    @classmethod
    def load(cls, builder: ir.IRBuilder, data: Any, at: Any) -> Lanes:
        """data[at : at + 16] of an array of float32."""
        return cls(builder, builder.load(_address(builder, data, at), align=4))

    def store(self, data: Any, at: Any) -> None:
        """To data[at : at + 16] of an array of float32."""
        self._b.store(self.value, _address(self._b, data, at), align=4)

    def gather(self, data: Any, stored: Any, element: Any) -> Lanes:
        """One `element` (INT or FLOAT) from each place &data[self] of an array of `stored`."""
        pointers = self._b.gep(data, [self.value], source_etype=stored)
        pointers.type = ir.VectorType(data.type, LANES)  # of a vector of indices; llvmlite takes it for one pointer
        kind = _vector(element)
        name = f"llvm.masked.gather.v{LANES}{'f' if element == FLOAT else 'i'}32.v{LANES}p0"
        module = self._b.module
        function = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(kind, [pointers.type, INT, _MASK, kind]), name
        )
        align, every = INT(2 if stored == SHORT else 4), ir.Constant(_MASK, [1] * LANES)
        return self._new(self._b.call(function, [pointers, align, every, ir.Constant(kind, ir.Undefined)]))

    def dot(self, other: Lanes) -> Lanes:
        """Of int32 that are each two int16: low * low + high * high, exact (one instruction on x86)."""
        short, wide = _vector(SHORT, 2 * LANES), _vector(INT, 2 * LANES)
        left, right = (self._b.sext(self._b.bitcast(side.value, short), wide) for side in (self, other))
        product, none = self._b.mul(left, right), ir.Constant(wide, ir.Undefined)
        low, high = (
            self._b.shuffle_vector(product, none, ir.Constant(_vector(INT), list(range(half, 2 * LANES, 2))))
            for half in (0, 1)
        )
        return self._new(self._b.add(low, high))

    def whole(self) -> Lanes:
        """As int32, towards zero; anything where it does not fit."""
        return self._new(self._b.fptosi(self.value, _vector(INT)))

    def real(self) -> Lanes:
        """As float32."""
        return self._new(self._b.sitofp(self.value, _vector(FLOAT)))

    def inverse(self) -> Lanes:
        """1 / these, to a few units in the last place."""
        return self._new(self._b.fdiv(self._like(1), self.value, flags=_FAST))

    def at_least(self, bound: Any) -> Lanes:
        return self._where(self < bound, bound)

    def at_most(self, bound: Any) -> Lanes:
        return self._where(self > bound, bound)

    def only(self, true: Lanes) -> Lanes:
        """These where it is true, else 0."""
        return self._new(self._b.select(true.value, self.value, self._like(0)))

    def _where(self, true: Lanes, other: Any) -> Lanes:
        return self._new(self._b.select(true.value, self._like(other), self.value))

    def __lt__(self, other: Any) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Lanes:
        return self._compare(">=", other)

    def _compare(self, operator: str, other: Any) -> Lanes:
        compare = self._b.fcmp_ordered if self._floating else self._b.icmp_signed
        return self._new(compare(operator, self.value, self._like(other)))

    def __add__(self, other: Any) -> Lanes:
        right = self._like(other)
        return self._new(
            self._b.fadd(self.value, right, flags=_FAST) if self._floating else self._b.add(self.value, right)
        )

    def __sub__(self, other: Any) -> Lanes:
        right = self._like(other)
        return self._new(
            self._b.fsub(self.value, right, flags=_FAST) if self._floating else self._b.sub(self.value, right)
        )

    def __mul__(self, other: Any) -> Lanes:
        right = self._like(other)
        return self._new(
            self._b.fmul(self.value, right, flags=_FAST) if self._floating else self._b.mul(self.value, right)
        )

    def __rshift__(self, bits: int) -> Lanes:
        """With its sign."""
        return self._new(self._b.ashr(self.value, self._like(bits)))

    def __lshift__(self, bits: int) -> Lanes:
        return self._new(self._b.shl(self.value, self._like(bits)))

    def __and__(self, other: Any) -> Lanes:
        return self._new(self._b.and_(self.value, self._like(other)))

    def _new(self, value: Any) -> Lanes:
        return Lanes(self._b, value)

    def _like(self, other: Any) -> Any:
        """The vector that an operand means."""
        return other.value if isinstance(other, Lanes) else ir.Constant(self.value.type, [other] * LANES)
