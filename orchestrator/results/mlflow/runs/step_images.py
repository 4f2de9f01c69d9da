"""Images that MLflow's page steps through by epoch, as files that are called as `MlflowClient.log_image` calls them.

That call sends two files an image, each with a new name: what is sent twice would be there twice. These names follow
from the fit, the case and the epoch.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.results.views.followed_cases import FollowedImage

FOLDER = "images"
TAG = {"mlflow.loggedImages": "True"}  # of a run that has such images
NOT_IN_A_KEY = re.compile(r"[^a-zA-Z0-9_\-. ]")
WEBP_QUALITY = 75


def image_key(case_id: str) -> str:
    """Key of the images of a case, under which MLflow's page lists them."""
    return f"followed {NOT_IN_A_KEY.sub('_', case_id.split('/', 1)[-1])}"


def step_image_files(
    fit_id: str, images: Iterable[FollowedImage], first_epoch: int, at: int
) -> dict[str, bytes]:
    """File name -> content; `at`: when the fit ended, in milliseconds. The page wants another time for each image."""
    import cv2

    from orchestrator.results.views.overlay import png

    files: dict[str, bytes] = {}
    for one in images:
        step = one.epoch + first_epoch
        if step < 0:  # the truth, in a study whose epochs are counted from 0
            continue
        own = uuid.uuid5(uuid.NAMESPACE_OID, f"{fit_id} {one.case_id} {step}")
        name = f"{image_key(one.case_id)}+step+{step}+timestamp+{at + step}+{own}"
        encoded, small = cv2.imencode(
            ".webp", cv2.cvtColor(one.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY]
        )
        if not encoded:
            raise RuntimeError(f"OpenCV could not encode an image of shape {one.image.shape}")
        files |= {f"{name}.png": png(one.image), f"{name}+compressed.webp": small.tobytes()}
    return files
