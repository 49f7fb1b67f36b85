"""No tensor of the program is float64: accelerators without it draw too, and a file that brings it is only read."""

from __future__ import annotations

import ast

from tests.architecture.source import sources

EXCEPT = {
    "safelight/weights/load.py": "reads files of any format",
    "safelight/adapters/lora/extract.py": "finds singular values by their squares, on the CPU",
    "safelight/evaluate/verify.py": "tells a fault from rounding, on the CPU",
    **dict.fromkeys(
        (
            *("safelight/cli/rigged.py", "safelight/multiview/bundle.py", "safelight/multiview/figurine.py"),
            *("safelight/multiview/rig.py", "safelight/multiview/export/colmap.py"),
            *("safelight/multiview/export/facelift.py", "safelight/multiview/export/found.py"),
            *("safelight/multiview/export/gsplat.py", "safelight/multiview/export/nerfstudio.py"),
            "safelight/multiview/zero123plus/model.py",
        ),
        "cameras in files and tables, on the CPU: what is written comes back",
    ),
}


def test_no_tensor_is_made_in_float64() -> None:
    found = []
    for source in sources("safelight"):
        for node in (node for node in ast.walk(source.tree) if isinstance(node, ast.expr)):
            named = isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.float64", "torch.double")
            cast = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "double"
            if (named or cast) and source.path not in EXCEPT:
                found.append(f"{source.path}:{node.lineno}")
    assert found == []
