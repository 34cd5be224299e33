"""Public names are a visible decision, and no file outside `families` decides by a family's name."""

import ast

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


def branches_on(names: set[str], root: ast.AST) -> list[int]:
    """Lines that compare a value called family, model type, name or architecture with one of `names`."""
    lines = []
    for node in ast.walk(root):
        if isinstance(node, ast.Compare):
            text = ast.unparse(node)
            used = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
            if used & names and any(word in text for word in ("family", "model_type", "name", "architecture")):
                lines.append(node.lineno)
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant) and node.value.value in names:
            lines.append(node.value.lineno)
    return lines


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
    planted = ast.parse('if family.name == "llava":\n    pass\nif config["model_type"] in ("qwen2", "x"):\n    pass\n')
    assert branches_on({"llava", "qwen2"}, planted) == [1, 3]


def test_no_file_outside_families_imports_a_single_family():
    families = {f"eyespot.families.{n}" for n in family_names()}
    assert [at for at in imports_from(families) if not at[0].startswith("eyespot.families")] == []
