# SPDX-License-Identifier: Apache-2.0
"""Math operators of the engines and what numpy computes for them in float32.

An `op=` argument is an `nki.language` function or a numpy one; both are known by their name. Which operators may
reduce, which are bitwise, and the valid input ranges of the Scalar Engine's functions are the tables of SDK 2.26
`nki.api.shared.rst` (tbl-aluop, tbl-act-func).
"""

import math

import numpy as np

from .errors import OperatorError


_erf = np.vectorize(math.erf, otypes=[np.float32])
_F = np.float32


def _sigmoid(x):
    return _F(1) / (_F(1) + np.exp(-x))


def _gelu_tanh(x):
    return _F(0.5) * x * (_F(1) + np.tanh(_F(math.sqrt(2 / math.pi)) * (x + _F(0.044715) * x * x * x)))


def _softplus(x):
    return np.logaddexp(x, _F(0)).astype(np.float32)


def _normal_density(x):
    return np.exp(-x * x / _F(2)) / _F(math.sqrt(2 * math.pi))


def _gelu(x):
    return _F(0.5) * x * (_F(1) + _erf(x / _F(math.sqrt(2))))


def _silu_dx(x):
    s = _sigmoid(x)
    return s * (_F(1) + x * (_F(1) - s))


def _reciprocal(x):
    return _F(1) / x


def _rsqrt(x):
    return _F(1) / np.sqrt(x)


ACTIVATIONS = {
    "copy": lambda x: x,
    "square": np.square,
    "sigmoid": _sigmoid,
    "relu": lambda x: np.maximum(x, _F(0)),
    "gelu": _gelu,
    "gelu_dx": lambda x: _F(0.5) * (_F(1) + _erf(x / _F(math.sqrt(2)))) + x * _normal_density(x),
    "gelu_apprx_tanh": _gelu_tanh,
    "gelu_apprx_sigmoid": lambda x: x * _sigmoid(_F(1.702) * x),
    "silu": lambda x: x * _sigmoid(x),
    "silu_dx": _silu_dx,
    "tanh": np.tanh,
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "erf": _erf,
    "erf_dx": lambda x: _F(2 / math.sqrt(math.pi)) * np.exp(-x * x),
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "arctan": np.arctan,
    "sqrt": np.sqrt,
    "rsqrt": _rsqrt,
    "reciprocal": _reciprocal,
    "sign": np.sign,
    "abs": np.abs,
}
VALID_RANGES = {
    "log": (2.0**-64, 2.0**64),
    "sin": (-math.pi, math.pi),
    "arctan": (-math.pi / 2, math.pi / 2),
    "sqrt": (2.0**-116, 2.0**118),
    "rsqrt": (2.0**-87, 2.0**97),
}
ARITHMETIC = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater_equal": np.greater_equal,
    "greater": np.greater,
    "less_equal": np.less_equal,
    "less": np.less,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "power": np.power,
    "divide": np.divide,
    "rsqrt": lambda x, y: _F(1) / np.sqrt(x + y),
    "reciprocal": lambda x, y: _F(1) / x,
    "abs": lambda x, y: np.abs(x),
    "logical_not": lambda x, y: np.logical_not(x),
    "mod": np.mod,
    "fmod": np.fmod,
}
BITWISE = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "left_shift": np.left_shift,
    "right_shift": np.right_shift,
    "invert": lambda x, y: np.invert(x),
}
REDUCTIONS = frozenset(
    "add subtract multiply maximum minimum logical_and logical_or logical_xor "
    "bitwise_and bitwise_or bitwise_xor".split()
)
_ALIASES = {
    "max": "maximum", "amax": "maximum", "min": "minimum", "amin": "minimum", "sum": "add", "prod": "multiply",
    "absolute": "abs", "true_divide": "divide", "all": "logical_and", "any": "logical_or", "negative": "negative",
}  # fmt: skip
_names: dict[int, tuple[object, str]] = {}


def name_of(op, instruction: str) -> str:
    """Canonical name of an operator argument.

    Raises:
        OperatorError: If it is neither an nki.language function nor a numpy one.
    """
    known = _names.get(id(op))
    if known is not None and known[0] is op:
        return known[1]
    module = getattr(op, "__module__", None) or ""
    if not (isinstance(op, np.ufunc) or module.startswith("numpy") or ".nki" in module):
        raise OperatorError(f"{instruction}: operator {op!r} is not an nki.language or numpy operator")
    name = op.__name__
    name = _ALIASES.get(name, name)
    _names[id(op)] = (op, name)
    return name


def binary(op, instruction: str):
    """(name, function, bitwise?) of a binary operator.

    Raises:
        OperatorError: If the engines have no such operator.
    """
    name = name_of(op, instruction)
    if name in ARITHMETIC:
        return name, ARITHMETIC[name], False
    if name in BITWISE:
        return name, BITWISE[name], True
    raise OperatorError(f"{instruction}: operator {name!r} is not in the table of supported math operators")


def unary(op, instruction: str):
    """(name, function) of an activation function.

    Raises:
        OperatorError: If the Scalar Engine has no such function.
    """
    name = name_of(op, instruction)
    if name not in ACTIVATIONS:
        raise OperatorError(f"{instruction}: {name!r} is not in the table of supported activation functions")
    return name, ACTIVATIONS[name]


def reduction(op, instruction: str):
    """(name, ufunc, bitwise?) of an operator that may reduce along the free axes.

    Raises:
        OperatorError: If it is not a legal reduction.
    """
    name, function, bitwise = binary(op, instruction)
    if name not in REDUCTIONS:
        raise OperatorError(f"{instruction}: {name!r} is not a legal reduction operator")
    return name, function, bitwise
