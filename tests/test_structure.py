"""The house is kept: who imports whom, how long things are, and what the text never says."""

import ast
import re
import subprocess
import warnings
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "harness").rglob("*.py"))
}

BASE = {
    "errors",
    "intervals",
    "failures",
    "wording",
    "structures",
    "files",
    "downloads",
    "document",
    "tensorfile",
    "processes",
    "own_process",
    "leases",
    "shared_disk",
    "provenance",
    "shipped",
}
SPINE = {
    "recipe",
    "shortening",
    "identity",
    "axes",
    "cell",
    "published",
    "imported",
    "run_paths",
    "run_spec",
    "run_state",
    "run_log",
    "trial_file",
}
ONLY = {
    "detection": BASE,
    "data": BASE,
    "evaluation": BASE | {"detection", "data"},
    "training": BASE | SPINE | {"detection", "data", "evaluation"},
    "numerics": BASE | SPINE | {"detection", "data", "training"},
    "tracking": BASE | SPINE,
    "reporting": BASE | SPINE | {"matrix", "tracking"},
    "comparing": BASE | SPINE | {"matrix", "evaluation", "data", "training", "reporting"},
    "launching": BASE
    | SPINE
    | {"matrix", "matrix_file", "yamlfile", "settings"}
    | {"detection", "data", "evaluation", "training", "tracking"},
    "tuning": BASE
    | SPINE
    | {"matrix", "matrix_file", "yamlfile", "settings"}
    | {"launching", "tracking", "reporting", "comparing"},
    "planning": BASE | SPINE | {"matrix", "matrix_file", "settings", "data", "training", "launching"},
}
"""What a room may import of this package besides itself."""

OWNERS = {"mlflow": "tracking", "submitit": "launching", "optuna": "tuning"}
"""The one room that imports a package."""

HEAVY_ROOMS = {"detection", "data", "evaluation", "training", "numerics", "comparing", "structures"}
HEAVY = {"torch", "torchvision", "mlflow", "submitit", "optuna", "pandas", "matplotlib"}
IMAGES = {"cv2", "pycocotools", "numpy"}
"""What no module outside the heavy rooms imports before it is used, so that the command line answers at once; but

launching, which looks into data sets, may import what reads them.
"""


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@cache
def imports(module: str, *, at_import: bool = False) -> frozenset[str]:
    """The modules that `module` imports; at_import: only those that importing it imports."""
    found: set[str] = set()
    for node in statements(ast.parse(MODULES[module].read_text()), at_import=at_import):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{module}: imports are absolute here"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(inner & MODULES.keys() or {node.module})
    return frozenset(found - {module})


def statements(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """All nodes but those that only the type checker sees, or, at import, those inside functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from statements(node, at_import=at_import)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name in MODULES}


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in ONLY])
def test_imports_run_one_way(module: str) -> None:
    allowed = ONLY[room(module)] | {room(module)}
    assert {room(name) for name in ours(imports(module))} <= allowed


def test_no_import_cycles() -> None:
    graph = {module: ours(imports(module)) for module in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)  # CycleError names a cycle


def test_each_large_package_has_one_home() -> None:
    for module in MODULES:
        for name in imports(module):
            assert OWNERS.get(name.split(".")[0], room(module)) == room(module), f"{module} imports {name}"


def test_reporting_never_imports_torch() -> None:
    for module in MODULES:
        if room(module) == "reporting":
            assert not {name.split(".")[0] for name in imports(module)} & {"torch", "torchvision"}, module


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) not in HEAVY_ROOMS])
def test_light_modules_import_nothing_heavy_before_it_is_used(module: str) -> None:
    reached, waiting = {module}, [module]
    while waiting:
        for name in ours(imports(waiting.pop(), at_import=True)) - reached:
            reached.add(name)
            waiting.append(name)
    unwanted = HEAVY if room(module) == "launching" else HEAVY | IMAGES
    for source in reached:
        heavy = {name.split(".")[0] for name in imports(source, at_import=True)} & unwanted
        assert not heavy, f"{module} imports {', '.join(heavy)} through {source}"


def test_functions_and_files_stay_short() -> None:
    for module, path in MODULES.items():
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                assert length <= 60, f"{module}.{node.name} has {length} lines"
        if text.count("\n") > 400:
            warnings.warn(f"{module} has more than 400 lines: does it have one purpose?", stacklevel=1)


# Absolute paths of somebody's machine, and hosts of package registries.
FORBIDDEN = re.compile(r"(?<![\w.:/-])/(work|root|opt|home/\w+)/|pythonhosted|pypi\.org/simple|--(extra-)?index-url")
SELF = Path(__file__).resolve()


def project_files() -> list[Path]:
    """What is or would be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the files of the project are known from git")
def test_no_machine_and_no_registry_is_named() -> None:
    for path in project_files():
        if path == SELF or path.suffix in (".png", ".jpg", ".gz", ".xz", ".pth"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert not FORBIDDEN.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()[:200]}"


def test_the_map_names_every_module() -> None:
    """CONTRIBUTING.md's map of the house is complete, and names nothing that is gone."""
    house = (ROOT / "CONTRIBUTING.md").read_text().split("## The house")[1].split("Imports run one way")[0]
    named = set(re.findall(r"\w+\.py\b", house))
    present = {path.name for path in (ROOT / "harness").rglob("*.py")} - {"__init__.py"}
    assert named == present
