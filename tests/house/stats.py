"""`make stats`: the ten largest modules and functions, to look at before adding to them."""

import ast
import sys

from .checks import ROOT, modules


def main() -> None:
    sizes: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for file, _, _ in modules(ROOT):
        text = file.read_text()
        name = str(file.relative_to(ROOT))
        sizes.append((text.count("\n"), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(
                    ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.lineno} {node.name}")
                )
    for title, values in (("modules", sizes), ("functions", functions)):
        values.sort(reverse=True)
        middle = values[len(values) // 2][0] if values else 0
        sys.stdout.write(f"{len(values)} {title}, {sum(v[0] for v in values)} lines, median {middle}\n")
        for lines, name in values[:10]:
            sys.stdout.write(f"  {lines:5}  {name}\n")


if __name__ == "__main__":
    main()
