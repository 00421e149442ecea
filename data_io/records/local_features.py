"""Define keypoints and descriptors: of one image, and of many images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data_io.records.checked_arrays import (
    has_unit_length,
    readonly,
    readonly_or_mapped,
    readonly_texts,
    require_unique,
    set_fields,
)

# Local descriptors are stored in 8 or 16 bits, which changes their length.
DESCRIPTOR_TOLERANCE = 0.1
INT8_STEPS = 127


@dataclass(frozen=True, eq=False)
class ImageKeypoints:
    """Local features of one image, the best first.

    Attributes:
        keypoints_px: float32 [M, 2], (x, y), pixel centres of the original image.
        scales_px: float32 [M], side of the described patch in pixels of the original image.
        attention: float32 [M]; a higher value means a more useful feature.
        descriptors: float32 [M, d], unit length.
        size_px: (width, height) of the original image.
    """

    keypoints_px: np.ndarray
    scales_px: np.ndarray
    attention: np.ndarray
    descriptors: np.ndarray
    size_px: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
            column = readonly(getattr(self, name), np.float32)
            if not np.isfinite(column).all():
                raise ValueError(f"{name} must be finite.")
            set_fields(self, **{name: column})
        width, height = self.size_px
        set_fields(self, size_px=(int(width), int(height)))
        self._check_shapes()
        if not has_unit_length(self.descriptors, DESCRIPTOR_TOLERANCE).all():
            raise ValueError("descriptors must be of unit length.")
        # A keypoint can be up to one pixel outside the centres of the outermost pixels.
        centre_px = (np.array(self.size_px) - 1) / 2
        if (np.abs(self.keypoints_px - centre_px) > centre_px + 1).any():
            raise ValueError(f"keypoints must be inside the image of {width} x {height} pixels.")

    def _check_shapes(self) -> None:
        count = len(self.descriptors)
        shapes = (self.keypoints_px.shape, self.scales_px.shape, self.attention.shape)
        if self.descriptors.ndim != 2 or shapes != ((count, 2), (count,), (count,)):
            raise ValueError(
                "keypoints_px, scales_px and attention must have one row per descriptor [M, d]. "
                f"Received shapes {shapes} for {count} descriptors."
            )

    def __len__(self) -> int:
        return len(self.descriptors)


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Local features of many images; image i has the rows offsets[i] to offsets[i + 1] - 1.

    Columns may be memory-mapped. Only `of` reads and checks their content.

    Attributes:
        ids: str [N], unique.
        offsets: int64 [N + 1], the first row of each image, then T.
        sizes_px: int32 [N, 2], (width, height) of each original image.
        keypoints_px: float32 [T, 2], (x, y), pixel centres of the original image.
        scales_px: float32 [T], side of the described patch in pixels of the original image.
        attention: float32 [T]; a higher value means a more useful feature.
        descriptors: float16 [T, d], or int8 [T, d] in steps of 1/127.
        digest: digest of the extractor. Two sets of descriptors can be compared if the part of
            the digest before "/" is equal.
    """

    ids: np.ndarray
    offsets: np.ndarray
    sizes_px: np.ndarray
    keypoints_px: np.ndarray
    scales_px: np.ndarray
    attention: np.ndarray
    descriptors: np.ndarray
    digest: str = ""
    _row_of: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        set_fields(
            self,
            ids=readonly_texts(self.ids),
            offsets=readonly(self.offsets, np.int64),
            sizes_px=readonly(self.sizes_px, np.int32),
        )
        self._check_offsets()
        total = int(self.offsets[-1])
        shapes = {"keypoints_px": (total, 2), "scales_px": (total,), "attention": (total,)}
        for name, shape in shapes.items():
            column = readonly_or_mapped(getattr(self, name), [np.float32], name)
            if column.shape != shape:
                raise ValueError(f"{name} must be {shape}. Received shape={column.shape}.")
            set_fields(self, **{name: column})
        descriptors = readonly_or_mapped(self.descriptors, [np.float16, np.int8], "descriptors")
        if descriptors.ndim != 2 or len(descriptors) != total:
            raise ValueError(
                f"descriptors must be [{total}, d]. Received shape={descriptors.shape}."
            )
        require_unique(self.ids, "image ids")
        row_of = {str(image_id): row for row, image_id in enumerate(self.ids)}
        set_fields(self, descriptors=descriptors, _row_of=row_of)

    def _check_offsets(self) -> None:
        num_images = len(self.ids)
        offsets = self.offsets
        if len(offsets) != num_images + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError(
                "offsets must be [N + 1], start at 0 and never fall. "
                f"Received {len(offsets)} for {num_images} ids."
            )
        if self.sizes_px.shape != (num_images, 2):
            raise ValueError(
                f"sizes_px must be ({num_images}, 2). Received shape={self.sizes_px.shape}."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def space(self) -> str:
        """The part of the digest that is equal if descriptors can be compared."""
        return self.digest.partition("/")[0]

    def of(self, image_id: str) -> ImageKeypoints:
        """Return the features of one image.

        Args:
            image_id: one of `ids`.

        Returns:
            The features, descriptors as float32.

        Raises:
            ValueError: no features of the image are stored, or they are damaged.
        """
        row = self._row_of.get(str(image_id))
        if row is None:
            raise ValueError(f"{image_id}: no local features of this image are stored.")
        rows = slice(self.offsets[row], self.offsets[row + 1])
        descriptors = np.asarray(self.descriptors[rows], np.float32)
        if self.descriptors.dtype == np.int8:
            descriptors /= np.float32(INT8_STEPS)
        try:
            return ImageKeypoints(
                np.array(self.keypoints_px[rows]),
                np.array(self.scales_px[rows]),
                np.array(self.attention[rows]),
                descriptors,
                tuple(self.sizes_px[row]),
            )
        except ValueError as error:
            raise ValueError(
                f"local features of {image_id} are damaged ({error}); extract them again."
            ) from None

    def __contains__(self, image_id: object) -> bool:
        return str(image_id) in self._row_of
