# SPDX-License-Identifier: Apache-2.0
"""What the NKI simulator refuses, one class a rule.

Every message names the instruction, the operand, what was expected and what was found. All classes derive from
`NkiError`, a `ValueError`; tile-size violations are also `SyntaxError`s, which is what the compiler raises for them
(SDK 2.26 `programming_model.rst`). The rules follow SDK 2.26 `nki.errors.rst`, `nki.api.shared.rst` and the
per-instruction notes of the `nki.isa` and `nki.language` stubs.
"""


class NkiError(ValueError):
    """Base of everything the simulated compiler refuses."""


class TileSizeError(SyntaxError, NkiError):
    """A tile exceeds an architecture limit: 128 partitions, matmul and transpose sizes, one PSUM bank."""


class PartitionMismatchError(NkiError):
    """Operands of one instruction have different numbers of partitions or elements per partition."""


class StartPartitionError(NkiError):
    """A compute engine cannot start an access at this partition."""


class MemorySpaceError(NkiError):
    """An operand lives in a memory that the instruction or the engine cannot access."""


class CapacityError(NkiError):
    """The data that is alive at one time exceeds SBUF or PSUM."""


class DtypeError(NkiError):
    """A data type that the instruction does not take."""


class ShapeError(NkiError):
    """Operand or destination shapes that do not fit together."""


class OperatorError(NkiError):
    """An operator that the engine does not implement, or arguments outside its documented range."""


class ImmutableParameterError(NkiError):
    """A store to a kernel parameter that was not declared mutable."""


class MutableNotReturnedError(NkiError):
    """A mutable parameter was written and is not among the returned tensors."""


class OutputNotWrittenError(NkiError):
    """A kernel output that no instruction wrote."""


class UninitializedReadError(NkiError):
    """An instruction reads memory that nothing wrote."""


class OutOfBoundsError(NkiError, IndexError):
    """An access beyond a tensor's dimension."""


class IndexingError(NkiError, IndexError):
    """An index that NKI does not support: 1-D arange, basic and advanced mixed, rank below two."""


class LoopDependencyError(NkiError):
    """Iterations of an affine_range depend on each other, or two of them write one location."""


class ScopeError(NkiError):
    """A tensor is used outside the loop or if block that created it, or shared_hbm is created inside one."""


class ControlFlowError(NkiError):
    """Python control flow on a value that is unknown while the kernel is traced."""


class MaskError(NkiError):
    """A mask or predicate that is not a conjunction of affine comparisons."""


class OutsideKernelError(NkiError):
    """An NKI call outside a kernel."""


class TargetError(NkiError):
    """An instruction that the chosen NeuronCore generation does not have."""
