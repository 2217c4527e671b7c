"""Label images with an exported model, without evenseg and without PyTorch.

    pip install numpy pillow onnxruntime
    python onnx_predict.py MODEL_FOLDER street.jpg labels.png

MODEL_FOLDER is what `evenseg export RUN --format onnx --output MODEL_FOLDER` wrote: model.onnx takes bytes, of
any size, and normalises and pads them itself; model.json tells the classes and their colours.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def resized_for(model, image):
    """(h, w, 3) uint8: the image at the size the model was trained on, [height, width], its short side, or as it is."""
    resize, (width, height) = model["resize"], image.size
    if resize is None:
        return np.asarray(image)
    if isinstance(resize, int):
        long = (2 * max(width, height) * resize + min(width, height)) // (2 * min(width, height))  # rounded half up
        new_height, new_width = (resize, long) if height <= width else (long, resize)
    else:
        new_height, new_width = resize
    if new_height > height or new_width > width:
        return np.asarray(image.resize((new_width, new_height), Image.Resampling.BILINEAR))
    rows, columns = area_weights(height, new_height), area_weights(width, new_width)
    means = np.einsum("rh,hwc,kw->rkc", rows, np.asarray(image, dtype=np.float64), columns, optimize=True)
    return np.rint(means).astype(np.uint8)


def area_weights(old, new):
    """(new, old): how much of each old pixel lies in each new one; each row sums to 1. Pillow's BOX cuts no pixels."""
    first = np.arange(new)[:, None] * old / new
    overlap = np.minimum(first + old / new, np.arange(old) + 1) - np.maximum(first, np.arange(old))
    return np.clip(overlap, 0, None) * new / old


def label_of(logits, size):
    """The most probable class of each pixel, (H, W), of logits (C, h, w); probabilities are enlarged to the size."""
    if logits.shape[:0:-1] == size:
        return logits.argmax(axis=0)
    prob = np.exp(logits - logits.max(axis=0))
    prob /= prob.sum(axis=0)
    planes = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)) for plane in prob]
    return np.argmax(planes, axis=0)


def main():
    """Predict one image and print what is in it."""
    parser = argparse.ArgumentParser(description="Label an image with an exported model.")
    parser.add_argument("folder", type=Path, help="what evenseg export wrote")
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path, help="PNG to write: class ids, with the class colours as palette")
    arguments = parser.parse_args()

    model = json.loads((arguments.folder / "model.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(arguments.folder / "model.onnx", providers=["CPUExecutionProvider"])

    image = ImageOps.exif_transpose(Image.open(arguments.image)).convert("RGB")
    pixels = resized_for(model, image)
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])  # (1, 3, H, W) uint8
    (logits,) = session.run(["logits"], {"image": batch})

    label = label_of(logits[0], image.size)
    picture = Image.fromarray(label.astype(np.uint8))  # 16 bits are needed above 255 classes
    picture.putpalette([value for color in model["colors"] for value in color])
    picture.save(arguments.labels)
    for index, name in enumerate(model["names"]):
        print(f"{name}: {100 * np.mean(label == index):.1f} % of the pixels")


if __name__ == "__main__":
    main()
