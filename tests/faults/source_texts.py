"""The texts that an expression of the source may come to, as templates with what is filled in in braces."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ENDS = (ast.Raise, ast.Return, ast.Continue, ast.Break)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
Chain = tuple[Sequence[ast.AST], ...]
"""The blocks of statements around a place, outermost first."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """Something assigned to a name, and where."""

    value: ast.expr
    line: int
    chain: Chain


@dataclass(slots=True)
class Scope:
    """Names that stand for texts, of a function or module, and the scope around it."""

    names: Mapping[str, list[Assigned]]
    outer: Scope | None = None
    parameters: frozenset[str] = frozenset()
    functions: Mapping[str, ast.FunctionDef] = field(default_factory=dict)

    def find_function(self, name: str) -> tuple[ast.FunctionDef, Scope] | None:
        """A function of the module, and the scope of the module."""
        if name in self.functions:
            return self.functions[name], self
        return self.outer.find_function(name) if self.outer else None

    def find(self, name: str, line: int, chain: Chain) -> list[ast.expr]:
        """What a name may be at a line in a block; nothing where the source does not say."""
        if self.names.get(name):
            return _choose(self.names[name], line, chain)
        if name in self.parameters or self.outer is None:
            return []
        return self.outer.find(name, line, chain)


def _choose(assigned: Sequence[Assigned], line: int, chain: Chain) -> list[ast.expr]:
    """Of all that is assigned to a name what can be there: the last on this way, and on ways beside it."""
    found: list[ast.expr] = []
    for each in reversed([each for each in assigned if each.line <= line]):
        beside = [block for block in each.chain if not any(block[0] is other[0] for other in chain)]
        if not any(isinstance(block[-1], _ENDS) for block in beside):
            found.insert(0, each.value)
        if not beside:
            break
    return found or [each.value for each in assigned]


@cache
def read_module(path: Path) -> ast.Module:
    """A module, parsed once."""
    return ast.parse(path.read_text("utf-8"))


def build_module_scope(tree: ast.Module, *, deep: bool = True) -> Scope:
    """The names of a module, those included that it imports from modules of hkdcli."""
    names = collect_names(tree.body)
    for node in tree.body if deep else ():
        source = ROOT / f"{(getattr(node, 'module', None) or '').replace('.', '/')}.py"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hkdcli") and source.exists():
            theirs = build_module_scope(read_module(source), deep=False).names
            names |= {
                each.asname or each.name: theirs[each.name] for each in node.names if each.name in theirs
            }
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return Scope(names, functions=functions)


def build_function_scope(function: ast.FunctionDef, outer: Scope) -> Scope:
    """The names of a function, and that it has parameters."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return Scope(collect_names(function.body), outer, frozenset(each.arg for each in given))


def collect_names(body: Sequence[ast.stmt]) -> dict[str, list[Assigned]]:
    """Name -> what is assigned to it, without looking into functions."""
    found: dict[str, list[Assigned]] = {}
    for node, chain in walk(body, (body,)):
        if isinstance(node, ast.Assign):
            _pair(node.targets[0], node.value, node.lineno, chain, found)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            _pair(node.target, node.value, node.lineno, chain, found)
    return found


def walk(nodes: Sequence[ast.AST], chain: Chain) -> Iterator[tuple[ast.AST, Chain]]:
    """Every node below with the blocks around it, functions and classes left alone."""
    for node in nodes:
        yield node, chain
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        for name, value in ast.iter_fields(node):
            inner = [
                each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST)
            ]
            yield from walk(inner, (*chain, inner) if name in _BLOCKS and inner else chain)


def _pair(
    target: ast.expr, value: ast.expr, line: int, chain: Chain, found: dict[str, list[Assigned]]
) -> None:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for each, its_value in zip(target.elts, value.elts, strict=True):
            _pair(each, its_value, line, chain, found)
    elif isinstance(target, ast.Name):
        found.setdefault(target.id, []).append(Assigned(value, line, chain))


def render_texts(
    node: ast.expr | None, scope: Scope, chain: Chain, line: int = 0, depth: int = 0
) -> list[str]:
    """The texts that an expression may be.

    Args:
        node: The expression; None is no text.
        scope: What names stand for.
        chain: The blocks around it.
        line: Where a name is looked up; 0 is where the expression stands.
        depth: How many names were followed.

    Returns:
        Templates; what is not a text in the source is its expression in braces.
    """
    if node is None or isinstance(node, ast.Constant) and node.value is None:
        return [""]
    line = line or node.lineno
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(map(_render_part, node.values))]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        ends = render_texts(node.right, scope, chain, line, depth)
        return [text + end for text in render_texts(node.left, scope, chain, line, depth) for end in ends]
    if isinstance(node, ast.IfExp | ast.BoolOp):
        parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
        return [text for part in parts for text in render_texts(part, scope, chain, line, depth)]
    if isinstance(node, ast.Name) and depth < 4 and (values := scope.find(node.id, line, chain)):
        return [text for value in values for text in render_texts(value, scope, chain, line, depth + 1)]
    if isinstance(node, ast.Call) and depth < 2 and (texts := _render_returned(node, scope, depth)):
        return texts
    return [f"{{{ast.unparse(node)}}}"]


def list_returned(call: ast.Call, scope: Scope) -> list[tuple[ast.expr, Scope, Chain]]:
    """What a function of the module may return where it is called by its name."""
    found = scope.find_function(call.func.id) if isinstance(call.func, ast.Name) else None
    if found is None:
        return []
    function, module = found
    inner = build_function_scope(function, module)
    return [
        (node.value, inner, chain)
        for node, chain in walk(function.body, (function.body,))
        if isinstance(node, ast.Return) and node.value is not None
    ]


def _render_returned(call: ast.Call, scope: Scope, depth: int) -> list[str]:
    """Texts that a called function returns, where each of them is one in the source."""
    texts = [
        text
        for value, inner, chain in list_returned(call, scope)
        for text in render_texts(value, inner, chain, depth=depth + 1)
    ]
    return texts if all(text and not (text[0] == "{" and text[-1] == "}") for text in texts) else []


def _render_part(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return f"{{{ast.unparse(part.value)}}}"
    return str(part.value) if isinstance(part, ast.Constant) else ""
