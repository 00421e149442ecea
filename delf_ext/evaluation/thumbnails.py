"""Make the thumbnails of a report, as parts of its HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from data_io.files.names import html_text
from data_io.images import ImageError, decode_image, sufficient_px
from data_io.records import NO_LABEL, GroundTruth, ImageList

THUMBNAIL_PX = 112
JPEG_QUALITY = 82


@dataclass(frozen=True, eq=False)
class PictureSource:
    """Source of pictures and their labels. The thumbnail of a file is made once.

    Attributes:
        query: images to search with.
        gallery: images to search in.
        truth: of these queries and this gallery.
        class_names: name of label i.
    """

    query: ImageList
    gallery: ImageList
    truth: GroundTruth
    class_names: Sequence[str]
    _thumbnails: dict[str, str] = field(default_factory=dict, init=False)

    def label_of(self, images: ImageList, row: int) -> str:
        """Return the class name of an image."""
        if images.labels is None or images.labels[row] == NO_LABEL:
            return "no label"
        label = int(images.labels[row])
        return (
            str(self.class_names[label]) if 0 <= label < len(self.class_names) else f"class {label}"
        )

    def picture(self, path: str, alt: str) -> str:
        """Return an <img> that holds its bytes, or a tile that says why it cannot be read."""
        if path not in self._thumbnails:
            try:
                self._thumbnails[path] = data_uri(path)
            except ImageError as error:
                self._thumbnails[path] = error.reason
        thumbnail = self._thumbnails[path]
        if thumbnail.startswith("data:"):
            return f"<img src='{thumbnail}' alt='{html_text(alt)}'>"
        reason = html_text(thumbnail)
        label = f"{html_text(alt)}: {reason}"
        return f"<span class='unreadable' role='img' aria-label='{label}'>{reason}</span>"


def data_uri(path: str) -> str:
    """Encode an image file as a JPEG thumbnail of at most THUMBNAIL_PX.

    Returns:
        A data URI.

    Raises:
        ImageError: the file cannot be read.
    """
    thumbnail = Image.fromarray(decode_image(path, sufficient_px(THUMBNAIL_PX)))
    thumbnail.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return encoded(thumbnail)


def encoded(picture: Image.Image) -> str:
    """Encode a picture as the data URI of a JPEG file."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
