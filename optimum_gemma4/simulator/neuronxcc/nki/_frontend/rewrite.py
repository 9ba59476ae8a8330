# SPDX-License-Identifier: Apache-2.0
"""Rewriting of kernel functions, as the compiler's frontend does before it traces them.

Three statements change their meaning inside a kernel: `for x in range(n)` becomes a sequential_range, an `if` on a
comparison of traced indices becomes a predicated block with its own scope, and break / continue in traced loops are
refused. Everything else runs as written. Line numbers are kept, so errors point at the kernel's source.
"""

import ast
import inspect
import textwrap
import types
from contextlib import contextmanager

from .._machine.errors import ControlFlowError
from .._memory.context import current
from .._memory.index import Index, IndexArray
from .._memory.predicate import Predicate
from .._memory.tensor import Tensor
from .loops import TracedRange, loop, sequential_range


def test(condition):
    """Evaluate the condition of an if statement.

    Raises:
        ControlFlowError: If it depends on a tensor's value, an arange, or a traced index that is not compared.
    """
    if isinstance(condition, Predicate):
        if not condition.scalar:
            raise ControlFlowError("control flow depending on nl.arange or nl.mgrid is not supported; use mask=")
        return condition.values
    if isinstance(condition, (Index, IndexArray, Tensor)):
        return bool(condition)
    return condition


@contextmanager
def _scope():
    program = current()
    depth = len(program.scopes)
    program.enter_scope()
    try:
        yield
    finally:
        program.leave_scopes(depth)


@contextmanager
def _no_scope():
    yield


def block(condition):
    """The scope of an if statement's body: a new one if the condition is traced, none if it is a constant."""
    return _scope() if isinstance(condition, Predicate) else _no_scope()


def jump(iterable, statement: str) -> None:
    """Refuse break or continue in a traced loop."""
    if isinstance(iterable, TracedRange):
        raise ControlFlowError(f"{statement} in a traced loop is not supported; the body is traced once")


HOOKS = {
    "__nki_range__": sequential_range,
    "__nki_loop__": loop,
    "__nki_test__": test,
    "__nki_block__": block,
    "__nki_jump__": jump,
}


class _Names(ast.NodeVisitor):
    """Order of first load and first store of every local name in a loop body."""

    def __init__(self):
        self.loaded_first, self.stored = set(), set()

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.stored.add(node.id)
        elif node.id not in self.stored:
            self.loaded_first.add(node.id)

    def visit_Assign(self, node):
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node):
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            if node.target.id not in self.stored:
                self.loaded_first.add(node.target.id)
            self.stored.add(node.target.id)
        else:
            self.visit(node.target)

    def visit_For(self, node):
        self.visit(node.iter)
        self.visit(node.target)
        for child in node.body + node.orelse:
            self.visit(child)


def carried_names(node: ast.For) -> tuple[str, ...]:
    """Names that a loop body reads before it assigns them and that it changes."""
    names = _Names()
    names.visit(node.target)
    for child in node.body:
        names.visit(child)
    mutated = {
        child.func.value.id
        for child in ast.walk(node)
        if isinstance(child, ast.Call)
        and isinstance(child.func, ast.Attribute)
        and child.func.attr in ("append", "pop", "extend", "insert", "add", "update", "remove", "clear")
        and isinstance(child.func.value, ast.Name)
    }
    return tuple(sorted((names.loaded_first & names.stored) | mutated))


def _call(name, *args):
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


class _Rewriter(ast.NodeTransformer):
    def __init__(self):
        self.count = 0
        self.loops = []

    def _name(self):
        self.count += 1
        return f"__nki_value_{self.count}__"

    def visit_For(self, node):
        carried = ast.Tuple([ast.Constant(n) for n in carried_names(node)], ast.Load())
        name = self._name()
        iterable = node.iter
        if isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.func.id == "range":
            iterable = _call("__nki_range__", *iterable.args)
        setup = ast.Assign([ast.Name(name, ast.Store())], iterable)
        self.loops.append(name)
        node.body = [s for child in node.body for s in self._statements(child)]
        self.loops.pop()
        node.orelse = [s for child in node.orelse for s in self._statements(child)]
        node.iter = _call("__nki_loop__", ast.Name(name, ast.Load()), carried)
        return [setup, node]

    def _statements(self, node):
        result = self.visit(node)
        return result if isinstance(result, list) else [result]

    def visit_While(self, node):
        self.loops.append(None)
        self.generic_visit(node)
        self.loops.pop()
        return node

    def visit_If(self, node):
        name = self._name()
        setup = ast.Assign([ast.Name(name, ast.Store())], node.test)
        node.test = _call("__nki_test__", ast.Name(name, ast.Load()))
        for branch in ("body", "orelse"):
            statements = [s for child in getattr(node, branch) for s in self._statements(child)]
            if statements:
                scope = ast.withitem(_call("__nki_block__", ast.Name(name, ast.Load())), None)
                setattr(node, branch, [ast.With([scope], statements)])
        return [setup, node]

    def _jump(self, node, statement):
        if not self.loops or self.loops[-1] is None:
            return node
        refuse = ast.Expr(_call("__nki_jump__", ast.Name(self.loops[-1], ast.Load()), ast.Constant(statement)))
        return [refuse, node]

    def visit_Break(self, node):
        return self._jump(node, "break")

    def visit_Continue(self, node):
        return self._jump(node, "continue")


def rewrite(function):
    """Return the traced version of a kernel function.

    Args:
        function: A Python function whose source is available.

    Raises:
        ValueError: If the source cannot be read.
    """
    try:
        lines, first_line = inspect.getsourcelines(function)
    except (OSError, TypeError) as error:
        raise ValueError(f"the source of kernel {function!r} is needed to trace it, and cannot be read") from error
    tree = ast.parse(textwrap.dedent("".join(lines)))
    definition = tree.body[0]
    definition.decorator_list = []
    definition = _Rewriter().visit(definition)
    code = function.__code__
    factory = ast.FunctionDef(
        name="__nki_factory__",
        args=ast.arguments([], [ast.arg(n) for n in (*HOOKS, *code.co_freevars)], None, [], [], None, []),
        body=[definition, ast.Return(ast.Name(definition.name, ast.Load()))],
        decorator_list=[],
    )
    module = ast.fix_missing_locations(ast.Module([factory], []))
    ast.increment_lineno(module, first_line - 1)
    compiled = compile(module, code.co_filename, "exec")
    inner = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
    target = next(c for c in inner.co_consts if isinstance(c, types.CodeType) and c.co_name == definition.name)
    cells = dict(zip(code.co_freevars, function.__closure__ or ()))
    closure = tuple(types.CellType(HOOKS[n]) if n in HOOKS else cells[n] for n in target.co_freevars)
    traced = types.FunctionType(target, function.__globals__, function.__name__, function.__defaults__, closure)
    traced.__kwdefaults__ = function.__kwdefaults__
    return traced
