"""Public names are a visible decision, and no file outside `families` decides by a family's name."""

import ast
import re

from source import modules, tree

PUBLIC = {"EyespotError", "Model", "Reply", "Trace", "compose", "load", "save"}


def imports_from(targets: set[str]) -> list[tuple[str, int]]:
    """Module and line of every `from TARGET import …`."""
    return [
        (name, node.lineno)
        for name, file in modules().items()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and node.module in targets
    ]


def test_the_public_names_are_exactly_these():
    import eyespot

    assert set(eyespot.__all__) == PUBLIC
    assert all(hasattr(eyespot, name) for name in PUBLIC)


def test_no_future_annotations_as_shapes_need_real_ones():
    assert [name for name, _ in imports_from({"__future__"})] == []


def family_names() -> set[str]:
    """The model types of the family table, and the names of the family files that it points to."""
    from eyespot.families import TABLE

    return set(TABLE) | {module.rpartition(".")[2] for module in TABLE.values()}


WORDS = ("family", "model_type", "name", "architecture")
SEARCHED = ("startswith", "endswith", "removeprefix", "match", "fullmatch", "search")


def branches_on(names: set[str], root: ast.AST) -> list[int]:
    """Lines that decide by a value called family, model type, name or architecture which of `names` it is.

    Seen are comparisons, matches, look-ups in a table, and beginnings that names share; also through a constant.
    """
    bound: dict[str, set[str]] = {}
    for node in ast.walk(root):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    bound.setdefault(target.id, set()).update(strings(node.value))

    def spelled(node: ast.AST) -> set[str]:
        named = (bound.get(n.id, set()) for n in ast.walk(node) if isinstance(n, ast.Name))
        return strings(node).union(*named)

    def decides(node: ast.AST) -> bool:
        if isinstance(node, ast.Compare):
            sides = (side.id for side in (node.left, *node.comparators) if isinstance(side, ast.Name))
            return bool(strings(node).union(*(bound.get(side, set()) for side in sides)) & names)
        if isinstance(node, ast.Subscript):
            return bool(spelled(node.value) & names) and asks(node.slice)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "get":
                return bool(spelled(node.func.value) & names) and bool(node.args) and asks(node.args[0])
            return node.func.attr in SEARCHED and bool(
                {stem(c) for c in spelled(node)} & {stem(n) for n in names} - {""}
            )
        return False

    def asks(key: ast.AST) -> bool:
        """A table's key that is a family's; a mere name may be that of a row format."""
        return any(word in ast.unparse(key) for word in ("family", "model_type", "architecture"))

    nodes = list(ast.walk(root))
    lines = [n.lineno for n in nodes if decides(n) and any(word in ast.unparse(n) for word in WORDS)]
    matched = (n.value for n in nodes if isinstance(n, ast.MatchValue) and isinstance(n.value, ast.Constant))
    return sorted({*lines, *(value.lineno for value in matched if value.value in names)})


def strings(node: ast.AST) -> set[str]:
    return {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}


def stem(name: str) -> str:
    """The word that a family's kin share; nothing for words that are not theirs alone."""
    found = re.match(r"\^?([a-z]{4,})", name)
    return found[1] if found and found[1] not in ("vision", "eyespot") else ""


def test_no_file_outside_families_branches_on_a_family():
    names = family_names()
    guilty = [
        f"{name}:{line}"
        for name, file in modules().items()
        if not name.startswith("eyespot.families")
        for line in branches_on(names, tree(file))
    ]
    assert guilty == []


def test_a_planted_branch_on_a_family_is_seen():
    planted = ast.parse(
        'if family.name == "llava":\n    pass\n'
        'if config["model_type"] in ("qwen2", "x"):\n    pass\n'
        'ours = ["qwen2"]\nif loaded.family in ours:\n    pass\n'
        'if loaded.family.startswith("qwen"):\n    pass\n'
        'merge = {"llava": 1}[family.name]\n'
        'merge = {"llava": 1}.get(family.name, 2)\n'
        'if re.match("^qwen2?", architecture):\n    pass\n'
        'match kind:\n    case "llava":\n        pass\n'
        'if name.startswith("vision_encoder") or layout == "llava":\n    pass\n'
    )
    assert branches_on({"llava", "qwen2"}, planted) == [1, 3, 6, 8, 10, 11, 12, 15]


def test_no_file_outside_families_imports_a_single_family():
    families = {f"eyespot.families.{n}" for n in family_names()}
    assert [at for at in imports_from(families) if not at[0].startswith("eyespot.families")] == []
