"""Choose the page of a TIFF file that holds the photograph, not its thumbnail."""

from __future__ import annotations

from PIL import Image, TiffImagePlugin

# Source: TIFF 6.0, section 8; TIFF technical note 1.
NEW_SUBFILE_TYPE = 254
SUB_IFDS = 330
_IS_REDUCED = 1


def seek_photograph(image: Image.Image) -> str:
    """Go to the first page of a TIFF that is not a reduced version of another.

    Args:
        image: just opened, of any format.

    Returns:
        "" if there is such a page, or if no other page exists; otherwise what the file is.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not _is_reduced(image):
        return ""
    for page in range(1, image.n_frames):
        image.seek(page)
        if not _is_reduced(image):
            return ""
    image.seek(0)
    # A camera's raw file has a thumbnail as its page and the photograph as a part of that page.
    return "a raw file of a camera; save it as JPEG" if SUB_IFDS in image.tag_v2 else ""


def _is_reduced(image: TiffImagePlugin.TiffImageFile) -> bool:
    return bool(int(image.tag_v2.get(NEW_SUBFILE_TYPE, 0)) & _IS_REDUCED)
