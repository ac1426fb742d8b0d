"""A copy of the library in which each call of a function can be made to fail."""

import ast
import shutil
from pathlib import Path

import supervisor

from . import strikes

LIBRARY = Path(supervisor.__file__).parent

AS_IT_IS = ("gate.py", "locks.py", "sections.py", "testing", "pytest_plugin.py", "config", "__main__.py")
"""What keeps exceptions out by where its frames stand, which a call in between would change; and what is for tests."""

KEPT = ("super", "locals", "assert_never", "isinstance", "len")
"""Names whose calls stay as they are: they go by their frame, or cannot fail."""


class Instrument(ast.NodeTransformer):
    """Puts `strike` before each call within a function."""

    def __init__(self, module):
        self.module = module
        self.within = 0
        self.sites = 0

    def visit_FunctionDef(self, node):
        self.within += 1
        node.body = [self.visit(each) for each in node.body]
        self.within -= 1
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node):
        self.within += 1
        self.generic_visit(node)
        self.within -= 1
        return node

    def visit_Raise(self, node):
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if not self.within or (isinstance(node.func, ast.Name) and node.func.id in KEPT):
            return node
        text = ast.unparse(node.func)
        if "strike" in text:
            text = "..." + text.rpartition(".")[2]
        site = f"{self.module}:{node.lineno}:{node.col_offset}:{text}".replace(" ", "").replace("|", "")
        self.sites += 1
        named = ast.Name("_strike_", ast.Load())
        node.func = ast.copy_location(ast.Call(named, [ast.Constant(site), node.func], []), node.func)
        return ast.fix_missing_locations(node)


def instrument(folder):
    """Makes the copy in a folder; returns how many calls there are in it."""
    sites = 0
    shutil.copy(strikes.__file__, folder / "supervisor_strikes.py")
    for path in LIBRARY.rglob("*.py"):
        relative = path.relative_to(LIBRARY)
        copy = folder / "supervisor" / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        if set(relative.parts) & set(AS_IT_IS):
            shutil.copy(path, copy)
            continue
        tree = ast.parse(path.read_text())
        change = Instrument(str(relative)[:-3])
        tree = change.visit(tree)
        sites += change.sites
        at = next(
            (
                number
                for number, each in enumerate(tree.body)
                if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
                and not (isinstance(each, ast.ImportFrom) and each.module == "__future__")
            ),
            len(tree.body),
        )
        tree.body.insert(at, ast.parse("from supervisor_strikes import strike as _strike_").body[0])
        copy.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    shutil.copy(LIBRARY / "py.typed", folder / "supervisor") if (LIBRARY / "py.typed").exists() else None
    return sites
