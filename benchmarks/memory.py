"""Selective memory against a plain implementation of the released layout: time, size and what is found.

    python benchmarks/memory.py [--sources 20] [--repeats 200]

640 entries of a 1024 px model: embedding 256 x 64 x 64, memory feature 64 x 64 x 64. Both sides hold the same
entries. The plain side is what the released code does: a Python list of full maps, stacked at each call. Its
query is flattened in the bank's order (the released code's layout fault is removed), and it saves the copies
that normalising would make, which favours it. Entries come from real images: each is enlarged to 1280 px and
encoded in tiles of 256 px; a window of 64 x 64 positions anywhere in the joined map is what a 1024 px image
gives. Two windows, 16 positions apart, fill the 256 channels where the encoder has 128.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from samed2.memory import SelectiveMemory

ENTRIES, QUERIES, TILE, SIDE, GRID = 640, 64, 256, 5, 64


# images and encoder


def source_images(count: int) -> list[np.ndarray]:
    """Return up to `count` real images, each (H, W, 3) uint8, in turn from all places."""
    places = [list(_scikit_image()), list(_pydicom()), list(_medical())]
    out: list[np.ndarray] = []
    while len(out) < count and any(places):
        out.extend(place.pop(0) for place in places if place and len(out) < count)
    return out


def _scikit_image() -> Iterator[np.ndarray]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = (
        "retina ihc cell microaneurysms hubble_deep_field moon camera astronaut coffee chelsea rocket coins "
        "motorcycle_left grass gravel brick page text phantom horse"
    )
    for path in (found for name in names.split() for found in folder.glob(f"{name}.*g")):
        yield np.asarray(Image.open(path).convert("RGB"))


def _pydicom() -> Iterator[np.ndarray]:
    import pydicom
    from pydicom.data import get_testdata_file

    for name in ("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm"):
        path = get_testdata_file(name, download=False)
        if path:
            pixels = pydicom.dcmread(path).pixel_array.astype(np.float32)
            low, high = np.percentile(pixels, (0.5, 99.5))
            grey = (np.clip((pixels - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)
            yield np.repeat(grey[..., None], 3, axis=2)


def _medical() -> Iterator[np.ndarray]:
    given = os.environ.get("SAMED2_DATA")
    root = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    for folder in sorted(root.glob("*/images")):
        first = sorted(folder.iterdir())[:1]
        yield from (np.asarray(Image.open(path).convert("RGB")) for path in first)


def encoder() -> tuple[Callable[[Tensor], Tensor], str]:
    """Return a function from pixels (B, 3, 256, 256) to embeddings (B, 128, 16, 16), and what it is."""
    if (Path(__file__).resolve().parents[1] / "src" / "samed2" / "models" / "nano").is_dir():
        from samed2.nn.weights import load

        nano = load("nano").eval()
        return lambda pixels: nano.encode(pixels[:, None]).low, "built-in nano"
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig, Sam2VisionModel

    widths = [48, 96, 192, 384]
    trunk = Sam2HieraDetConfig(
        hidden_size=48,
        num_attention_heads=1,
        image_size=[TILE, TILE],
        blocks_per_stage=[1, 2, 3, 1],
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_positional_embedding_background_size=[7, 7],
        global_attention_blocks=[4],
    )
    sizes = [[TILE // stride] * 2 for stride in (4, 8, 16)]
    config = Sam2VisionConfig(
        backbone_config=trunk,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=sizes,
        fpn_hidden_size=128,
    )
    torch.manual_seed(0)
    model = Sam2VisionModel(config).eval()
    return lambda pixels: model(pixels).fpn_hidden_states[-1], "random Sam2 vision encoder, seed 0"


@torch.inference_mode()
def joined_maps(images: list[np.ndarray], encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Return embeddings (images, d, 80, 80) of images enlarged to 1280 px, in tiles of 256 px."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    out = []
    for image in images:
        height, width = image.shape[:2]
        short = min(height, width)
        left, top = (width - short) / 2, (height - short) / 2
        size = (SIDE * TILE, SIDE * TILE)
        square = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, (left, top, left + short, top + short))
        pixels = ((torch.from_numpy(np.array(square)) / 255 - mean) / deviation).permute(2, 0, 1)
        tiles = pixels.unfold(1, TILE, TILE).unfold(2, TILE, TILE).permute(1, 2, 0, 3, 4).flatten(0, 1)
        maps = torch.cat([encode(tiles[i : i + SIDE]) for i in range(0, SIDE * SIDE, SIDE)])
        depth, cells = maps.shape[1], maps.shape[2]
        maps = maps.view(SIDE, SIDE, depth, cells, cells).permute(2, 0, 3, 1, 4)
        out.append(maps.reshape(depth, SIDE * cells, SIDE * cells))
    return torch.stack(out)


def samples(maps: Tensor, count: int) -> Iterator[Tensor]:
    """Give `count` distinct embeddings (256, 64, 64)."""
    draw, seen = np.random.default_rng(0), set()
    room = maps.shape[-1] - GRID + 1
    while len(seen) < count:
        place = (len(seen) % len(maps), int(draw.integers(room)), int(draw.integers(room)))
        if place in seen:
            continue
        seen.add(place)
        which, y, x = place
        parts = [_window(maps[which], y, x)]
        if parts[0].shape[0] < 256:
            parts.append(_window(maps[which], (y + 16) % room, x))
        yield torch.cat(parts)[:256].contiguous()


def feature_of(embedding: Tensor) -> Tensor:
    """Return a stand-in (..., 64, h, w) for the memory encoder's output of an embedding (..., d, h, w)."""
    return embedding[..., :64, :, :] + 0.5 * embedding[..., 64:128, :, :]


def _window(joined: Tensor, y: int, x: int) -> Tensor:
    return joined[:, y : y + GRID, x : x + GRID]


# the plain implementation


class PlainBank:
    """A list of [feature, position code, confidence, embedding], stacked at each call."""

    def __init__(self) -> None:
        self.entries: list[list[Tensor]] = []

    def append(self, feature: Tensor, confidence: float, embedding: Tensor) -> None:
        kept = feature[None].bfloat16()
        position = torch.zeros_like(kept).normal_(generator=torch.Generator().manual_seed(0))
        self.entries.append([kept, position, torch.tensor(confidence), embedding.flatten()])

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for entry in self.entries for item in entry)

    def cosines(self, queries: Tensor) -> Tensor:
        """Return the cosine (B, n) of queries (B, d, h, w) to every entry."""
        bank = torch.stack([entry[3] for entry in self.entries])
        flat = F.normalize(queries.flatten(1), dim=1)
        return (flat @ bank.T) / torch.linalg.vector_norm(bank, dim=1)

    def retrieve(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        sure = torch.stack([entry[2] for entry in self.entries])
        indices = (self.cosines(queries).clamp(min=0) + torch.sigmoid(sure)).topk(k).indices
        features = torch.cat([entry[0] for entry in self.entries])
        positions = torch.cat([entry[1] for entry in self.entries])
        return features[indices], positions[indices], indices

    def add(self, features: Tensor, confidence: list[float], embeddings: Tensor) -> None:
        for feature, sure, embedding in zip(features, confidence, embeddings, strict=True):
            bank = torch.cat([entry[0] for entry in self.entries]).flatten(1).float()
            cosine = F.normalize(bank, dim=1) @ F.normalize(feature.bfloat16().float().flatten(), dim=0)
            place = int(cosine.argmax())
            if sure > float(self.entries[place][2]):
                self.entries.pop(place)
                self.append(feature, sure, embedding)


# measuring


def timed(bank: SelectiveMemory, news: list[Tensor], repeats: int) -> tuple[float, float]:
    """Return median milliseconds of reading 4 entries for a batch of two, and of writing that batch."""
    reads, writes = [], []
    for step in range(repeats):
        embedding = torch.stack([news[(2 * step + i) % len(news)] for i in range(2)])
        feature = feature_of(embedding)
        start = time.perf_counter()
        retrieved = bank.retrieve(embedding, 4)
        middle = time.perf_counter()
        results = bank.add(embedding, feature, [0.7 + 0.29 * step / repeats] * 2, retrieved=retrieved)
        writes.append(time.perf_counter() - middle)
        reads.append(middle - start)
        assert all(result.kept for result in results)  # the dear case: every sample replaces an entry
    return 1e3 * float(np.median(reads)), 1e3 * float(np.median(writes))


def timed_plain(bank: PlainBank, news: list[Tensor], repeats: int = 3) -> tuple[float, float]:
    """Return median milliseconds of the plain read and write of a batch of two."""
    reads, writes = [], []
    for step in range(repeats):
        embedding = torch.stack(news[2 * step : 2 * step + 2])
        feature = feature_of(embedding)
        start = time.perf_counter()
        bank.retrieve(embedding, 4)
        middle = time.perf_counter()
        bank.add(feature, [0.7 + 0.1 * step] * 2, embedding)
        writes.append(time.perf_counter() - middle)
        reads.append(middle - start)
    return 1e3 * float(np.median(reads)), 1e3 * float(np.median(writes))


def recall(found: Tensor, wanted: Tensor) -> float:
    """Return the share of the wanted indices (Q, 4) that were found (Q, 4)."""
    return float((found[:, :, None] == wanted[:, None, :]).any(1).float().mean())


def fill(key: str, policy: str, entries: Sequence[Tensor], confidence: list[float]) -> SelectiveMemory:
    bank = SelectiveMemory(len(entries), feature_of(entries[0]).shape, key=key, policy=policy)
    for embedding, sure in zip(entries, confidence, strict=True):
        bank.add(embedding[None], feature_of(embedding)[None], [sure])
    return bank


def native_recall(maps: Tensor) -> tuple[float, int]:
    """Return recall@4 of pooled keys on the single tiles (16 x 16 maps), and the number of entries."""
    cells = maps.shape[-1] // SIDE
    tiles = maps.unfold(2, cells, cells).unfold(3, cells, cells).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    tiles = tiles[torch.randperm(len(tiles), generator=torch.Generator().manual_seed(0))]
    count = len(tiles) - QUERIES
    bank = fill("pooled", "similarity", tiles[:count].unbind(), [0.5] * count)
    flat = F.normalize(tiles.flatten(1), dim=1)
    exact = (flat[count:] @ flat[:count].T).topk(4).indices
    return recall(bank.retrieve(tiles[count:], 4).indices, exact), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=20, help="real images to take windows of")
    parser.add_argument("--repeats", type=int, default=200, help="timed batches of the selective memory")
    options = parser.parse_args()
    torch.set_num_threads(2)
    begin = time.perf_counter()
    encode, name = encoder()
    images = source_images(options.sources)
    maps = joined_maps(images, encode)
    encoded = time.perf_counter() - begin
    confidence = np.random.default_rng(1).uniform(0.3, 0.7, ENTRIES).tolist()
    everything = samples(maps, ENTRIES + QUERIES)
    entries = [next(everything) for _ in range(ENTRIES)]
    queries = list(everything)
    rows: list[tuple[str, str]] = [
        ("encoder", name),
        ("real images, enlarged and cut into tiles", f"{len(images)}, {len(images) * SIDE * SIDE} tiles"),
        ("seconds to encode", f"{encoded:.0f}"),
    ]

    plain = PlainBank()
    for embedding, sure in zip(entries, confidence, strict=True):
        plain.append(feature_of(embedding), sure, embedding)
    asked = torch.stack(queries)
    exact = plain.cosines(asked)
    plain_top = (exact.clamp(min=0) + torch.sigmoid(torch.tensor(confidence))).topk(4).indices

    pooled = fill("pooled", "paper", entries, confidence)
    pooled.policy = "similarity"
    found = recall(pooled.retrieve(asked, 4).indices, exact.topk(4).indices)
    pooled.policy = "paper"
    scored = (exact + torch.sigmoid(torch.tensor(confidence))).topk(4).indices
    found_scored = recall(pooled.retrieve(asked, 4).indices, scored)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.safetensors"
        pooled.save(path)
        disk = path.stat().st_size
        read, write = timed(pooled, queries, options.repeats)
        mapped = SelectiveMemory.load(path)
        mapped_read, mapped_write = timed(mapped, queries, options.repeats)
        del mapped
    megabytes = max(disk, pooled.nbytes) / 1e6

    plain_bytes = plain.nbytes
    plain_read, plain_write = timed_plain(plain, queries)
    del plain, pooled
    flat = fill("flat", "released", entries, confidence)
    equal = torch.equal(flat.retrieve(asked[:16], 4).indices, plain_top[:16])
    native, native_entries = native_recall(maps)
    rows += [
        ("pooled keys: read k=4 for two, ms", f"{read:.2f}"),
        ("pooled keys: write two, ms", f"{write:.2f}"),
        ("the same, mapped from its file, ms", f"{mapped_read:.2f} + {mapped_write:.2f}"),
        ("plain: read, write, ms", f"{plain_read:.0f} + {plain_write:.0f}"),
        ("bank in memory / on disk, MB", f"{megabytes:.1f} / {disk / 1e6:.1f}"),
        ("plain: held by the list, MB", f"{plain_bytes / 1e6:.0f}"),
        ("recall@4 by cosine, 640 maps of 64 x 64", f"{found:.4f}"),
        ("recall@4 by the paper's score, same maps", f"{found_scored:.4f}"),
        (f"recall@4 by cosine, {native_entries} maps of 16 x 16", f"{native:.4f}"),
        ("exact keys: top 4 equal to plain", str(equal)),
        ("load of this machine, 1 minute", f"{os.getloadavg()[0]:.1f}"),
        ("peak memory of this run, MB", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f}"),
        ("seconds in all", f"{time.perf_counter() - begin:.0f}"),
    ]
    for label, value in rows:
        print(f"{label:<45} {value:>40}")
    print(
        json.dumps(
            {
                "read_write_ms": round(read + write, 3),
                "bank_mb": round(megabytes, 1),
                "plain_read_write_ms": round(plain_read + plain_write, 1),
                "plain_mb": round(plain_bytes / 1e6, 1),
                "recall_at_4": round(found, 4),
                "exact_topk_equal": equal,
            }
        )
    )


if __name__ == "__main__":
    main()
