"""Arithmetic on text: no names, no calls, no `eval`, and nothing that takes long."""

from __future__ import annotations

import ast
import math
import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Number = int | float

MAX_LENGTH = 200
MAX_BITS = 4096
_SIGNIFICANT_DIGITS = 12
_LARGEST_EXACT_FLOAT = 2**53
# Only these characters ever reach the parser, so it meets no names but the exponent's `e`.
_ALLOWED = re.compile(r"[0-9.+\-*/%() eE]+")


class CalculationError(ValueError):
    """The expression has no answer here; the message says why."""


def _multiply(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise CalculationError("the result is too large")
    return left * right


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int):
        if max(base.bit_length(), 1) * abs(exponent) > MAX_BITS:
            raise CalculationError("the result is too large")
    elif base < 0 and not float(exponent).is_integer():
        raise CalculationError("a root of a negative number is not a real number")
    result: Number = base**exponent
    return result


_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


def calculate(expression: str) -> str:
    """Return the value as text: ``calculate("6*7") == "42"``."""
    expression = expression.strip().replace("×", "*").replace("÷", "/")
    if not expression:
        raise CalculationError("there is nothing to calculate")
    if len(expression) > MAX_LENGTH:
        raise CalculationError(f"the expression is longer than {MAX_LENGTH} characters")
    if _ALLOWED.fullmatch(expression) is None:
        raise CalculationError("only numbers, + - * / // % ** and parentheses are understood")
    try:
        return _format(_evaluate(ast.parse(expression, mode="eval").body))
    except ZeroDivisionError:
        raise CalculationError("division by zero") from None
    except OverflowError:
        raise CalculationError("the result is too large") from None
    except (SyntaxError, RecursionError, MemoryError):
        raise CalculationError("the expression is not complete or not well formed") from None


def _evaluate(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_evaluate(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_evaluate(node.left), _evaluate(node.right))
    raise CalculationError("only numbers, + - * / // % ** and parentheses are understood")


def _format(number: Number) -> str:
    if isinstance(number, int):
        return str(number)
    if not math.isfinite(number):
        raise CalculationError("the result is too large")
    if number.is_integer() and abs(number) <= _LARGEST_EXACT_FLOAT:
        return str(int(number))
    # Fewer digits than a float has: 0.1 + 0.2 is 0.3 to whoever asks.
    return format(number, f".{_SIGNIFICANT_DIGITS}g")
