"""Hyperparameter search and cross-validation for polyp segmentation, on Ray, Optuna and MLflow.

The networks are the package `models` beside this one, which is a name that folders of users often hold as well:
`python -m` looks into the current folder first, and so do Ray's workers. From here on the name means that package.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

__version__ = "0.1.0"

_BESIDE = Path(__file__).resolve().parents[1]


class _OwnNetworks:
    """Finds `models` beside this package, whatever else of that name is on the path."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(_BESIDE)]) if name == "models" else None


# A model in MLflow brings a copy of this package alone.
if (_BESIDE / "models" / "__init__.py").is_file():
    _other = getattr(sys.modules.get("models"), "__file__", None)
    if "models" in sys.modules and (_other is None or Path(_other).resolve().parent != _BESIDE / "models"):
        raise ImportError(
            f"`models` is {_other or 'another package'} here, and orchestrator needs the package of that name beside "
            "it; import orchestrator first, or rename the other one"
        )
    sys.meta_path.insert(0, _OwnNetworks)
