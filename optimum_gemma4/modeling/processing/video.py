# SPDX-License-Identifier: Apache-2.0
"""Videos as frames: which frames belong to which video, and what time each frame is labelled with.

Gemma 4 sees a video as a row of small images, each preceded by its time as `mm:ss`. Decoding and sampling are the
caller's: every frame given is used, none is dropped. Follows transformers 5.23 `Gemma4Processor.replace_video_token`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers.utils import logging


logger = logging.get_logger(__name__)

DEFAULT_FPS = 24.0
DEFAULT_VIDEO_PROCESSOR = {
    "video_processor_type": "Gemma4VideoProcessor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "do_sample_frames": True,
    "image_mean": [0.0, 0.0, 0.0],
    "image_std": [1.0, 1.0, 1.0],
    "max_soft_tokens": 70,
    "num_frames": 32,
    "patch_size": 16,
    "pooling_kernel_size": 3,
    "resample": 3,
    "rescale_factor": 1 / 255,
}


def list_videos(videos: Any) -> list[list[Any]]:
    """Flattens videos of a batch to one list, in order.

    Args:
        videos: one video, a list of videos, or a list of such lists (one per prompt, which may be empty). A video is a
            list of frames or an array [frames, height, width, channels] (or channels first).

    Returns:
        A list of videos, each a non-empty list of frames.

    Raises:
        ValueError: if a video has no frames, or is neither frames nor an array of four dimensions.
    """
    if not _is_video(videos) and isinstance(videos, (list, tuple)):
        if any(not _is_video(element) for element in videos):  # one list per prompt
            videos = [element for element in videos if not isinstance(element, (list, tuple)) or element]
        return [video for element in videos for video in list_videos(element)]
    if not _is_video(videos):
        raise ValueError(
            f"A video is given as {type(videos).__name__}; expected a list of frames (any kind of image) or an array "
            "of four dimensions. Decode the file and pick the frames first."
        )
    frames = list(videos)
    if not frames:
        raise ValueError("A video has 0 frames; expected at least one.")
    return [frames]


def frame_times(metadata: Any, num_frames: int, name: str) -> list[str]:
    """Time labels of a video's frames.

    Args:
        metadata: mapping with `fps` (frames per second of the source) and `frames_indices` (which frames of the source
            these are); either may be missing or `None`. `None` means that nothing is known.
        num_frames: number of frames given.
        name: how messages call this video.

    Returns:
        One `mm:ss` per frame. Without indices the frames count as consecutive, without fps as 24 a second.

    Raises:
        ValueError: if the metadata speak of another number of frames.
    """
    known = dict(metadata) if isinstance(metadata, Mapping) else {}
    indices = known.get("frames_indices")
    indices = range(num_frames) if indices is None else list(indices)
    if len(indices) != num_frames:
        raise ValueError(f"{name} has {num_frames} frames, but its metadata name {len(indices)} `frames_indices`.")
    fps = known.get("fps")
    if fps is None:
        logger.warning_once(
            f"The frame rate of a video is unknown; its frames are labelled as {DEFAULT_FPS:g} frames per second. "
            "Pass `video_metadata=[{'fps': ..., 'frames_indices': [...]}]` for the right times."
        )
        fps = DEFAULT_FPS
    seconds = [int(index / fps) for index in indices]
    return [f"{second // 60:02d}:{second % 60:02d}" for second in seconds]


def _is_video(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return not any(isinstance(element, (list, tuple)) or _is_video(element) for element in value)
    return getattr(value, "ndim", 0) == 4
