"""Poses of pictures: of those that are given to be copied, and of those that were drawn.

Two detectors may be there: the installed one, which knows people, and the engine's own, which knows
characters as that engine draws them.
"""

from __future__ import annotations

from PIL import Image

from ..pose.reading import read_skeleton
from ..pose.scores import score_pck
from ..pose.skeleton import Skeleton, find_face, visible_keypoints
from ..pose.whole_body import WholeBody
from ..settings import Settings
from . import EngineError
from .detector import PoseDetector, is_detector_installed, load_detector


class PoseFinder:
    """Finds bodies in pictures, and tells how well a drawn figure stands as it should."""

    def __init__(
        self,
        own: PoseDetector | None = None,
        detector: PoseDetector | None = None,
        settings: Settings | None = None,
    ) -> None:
        """`own` is the engine's; without a `detector` the one that the settings name (the environment's when
        not given) is loaded when it is needed."""
        self._own = own
        self._detector = detector
        self._settings = settings
        self._scores = bool(own or detector) or is_detector_installed(settings)
        self._last: tuple[str, WholeBody] | None = None

    def find(self, digest: str, picture: Image.Image) -> WholeBody:
        """The body that a picture shows: drawn as a skeleton, or somebody who stands so.

        It is in pixels of the picture; of a drawn one the skeleton alone is read. `digest` names the
        picture, and the last one is not looked at again: pictures of one request come one after another
        with the same pose.

        Raises:
            EngineError: nobody is found (`no_person_found`), or there is no detector that works.
        """
        if self._last is None or self._last[0] != digest:
            skeleton = read_skeleton(picture)
            self._last = (digest, self._detect(picture) if skeleton is None else WholeBody(skeleton))
        return self._last[1]

    def find_face(self, picture: Image.Image, margin: float = 0.3) -> tuple[int, int, int, int] | None:
        """The square around the largest person's face: left, top, right, bottom in pixels of the picture.

        `margin` is added on each side, in radii of the head. None when no face shows, or no detector
        is there that works: what needs a face does without.
        """
        try:
            return find_face(self._detect(picture).skeleton, *picture.size, margin)
        except EngineError:
            return None

    def can_score(self, wanted: Skeleton | None) -> bool:
        """Whether there is a pose to compare with, and a detector to look with."""
        return self._scores and wanted is not None and bool(visible_keypoints(wanted).any())

    def score(self, wanted: Skeleton | None, picture: Image.Image) -> float | None:
        """How well the figure in a picture stands as wanted, 0 to 1 (PCK); None where `can_score` is no."""
        if wanted is None or not self.can_score(wanted):
            return None
        try:
            found = (self._own or self._get_detector()).find_skeleton(picture)
        except EngineError as error:
            if error.code == "no_person_found":
                return 0.0
            # A detector that cannot be loaded is not tried again for every picture.
            self._scores = False
            return None
        return round(score_pck(found, wanted), 4)

    def _detect(self, picture: Image.Image) -> WholeBody:
        if self._own is None or self._detector is not None or is_detector_installed(self._settings):
            try:
                return self._get_detector().find_body(picture)
            except EngineError:
                if self._own is None:
                    raise
        return self._own.find_body(picture)

    def _get_detector(self) -> PoseDetector:
        if self._detector is None:
            self._detector = load_detector(self._settings)
        return self._detector
