"""The data of a page, as small as they can be: each array once, in as many digits as are read."""

import base64
import json
from typing import Any

import numpy as np

__all__ = ["packed"]

_DIGITS = 6
_LEVELS = 127  # of colours, on each side of zero
_NONE = -128  # stands for what is not finite


def packed(data: dict[str, Any]) -> dict[str, Any]:
    """With a list of ``arrays``, to which the steps refer by its indices: where a value has one user, its δ is the one
    term; the gradient of a parameter is the δ of its step.

    >>> none = {"shape": [], "data": 1 / 3, "image": None}
    >>> output = {"shape": [], "dtype": "float32", "value": none, "delta": none}
    >>> found = packed({"steps": [{"outputs": [output], "terms": [], "parameters": []}]})
    >>> found["steps"][0]["outputs"][0]["value"], found["arrays"]
    (0, [{'shape': [], 'data': 0.333333, 'image': None}])
    """
    found: dict[str, int] = {}
    arrays: list[dict[str, Any]] = []

    def kept(array: dict[str, Any] | None) -> int | None:
        if array is None:
            return None
        image = array.get("image")
        short = _rounded({key: value for key, value in array.items() if key != "image"}, _DIGITS)
        short["image"] = image and _coloured(image)
        key = json.dumps(short)
        if key not in found:
            found[key] = len(arrays)
            arrays.append(short)
        return found[key]

    steps = []
    for step in data["steps"]:
        outputs = [{**o, "value": kept(o["value"]), "delta": kept(o["delta"])} for o in step["outputs"]]
        terms = [{**term, "value": kept(term["value"])} for term in step["terms"]]
        parameters = [{**p, "value": kept(p["value"]), "gradient": kept(p["gradient"])} for p in step["parameters"]]
        steps.append({**step, "outputs": outputs, "terms": terms, "parameters": parameters})
    return {**data, "steps": steps, "arrays": arrays}


def _coloured(image: dict[str, Any]) -> dict[str, Any]:
    """An image in bytes, as one sees no more of it: shares of its largest number."""
    values = np.array(image["data"], float)
    finite = np.isfinite(values)
    limit = float(np.max(np.abs(values), where=finite, initial=0.0))
    shares = np.where(finite, values, 0.0) / (limit or 1.0)
    levels = np.where(finite, np.rint(shares * _LEVELS), _NONE).astype(np.int8)
    about = {key: value for key, value in image.items() if key != "data"}
    return about | {"limit": _rounded(limit, _DIGITS), "levels": base64.b64encode(levels.tobytes()).decode()}


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: _rounded(each, digits) for key, each in value.items()}
    return [_rounded(each, digits) for each in value] if isinstance(value, list) else value
