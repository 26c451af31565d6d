"""Training through the platform against the same training without it, in one run, in turn.

    python benchmarks/training.py yolo          against Ultralytics called directly on the same images and settings
    python benchmarks/training.py torchvision   against a plain PyTorch loop, same model, batches and augmentation

Both sides run in fresh processes, A B A B; the median of the ratios is what counts. Data: a run's dataset version
(`make run` makes one), or --dataset.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

BATCH_SIZE = 16
EPOCHS = {"yolo": 2, "torchvision": 4}
SIZES = {"yolo": 160, "torchvision": 160}


def ours(kind: str, dataset: Path, folder: Path) -> float:
    """Train through the platform and return the seconds of the training stage's own work."""
    _import_libraries(kind)
    from visionyard.config import ModelConfig, TrainingConfig
    from visionyard.training import train_model

    name = {"yolo": "yolo-detection", "torchvision": "torchvision-classification"}[kind]
    started = time.perf_counter()
    train_model(
        dataset,
        folder / "model",
        model=ModelConfig(name=name, options=_options(kind)),
        training=TrainingConfig(
            epochs=EPOCHS[kind], batch_size=BATCH_SIZE, image_size_px=SIZES[kind], learning_rate=0.001, device="cpu"
        ),
        checkpoints_uri=str(folder / "checkpoints"),
        allow_leak=True,  # only the time counts
    )
    return time.perf_counter() - started


def _import_libraries(kind: str) -> None:
    """Import what both sides need before the clock starts."""
    for name in ("torch", "torchvision.models", "torchvision.transforms.v2", "accelerate"):
        import_module(name)
    if kind == "yolo":
        from visionyard.models.yolo.environment import load_ultralytics

        load_ultralytics("ultralytics.models.yolo.detect")


def _options(kind: str) -> dict[str, float]:
    return {"mosaic": 0, "flip_horizontal": 0} if kind == "yolo" else {"flip_horizontal": 0}


def direct_yolo(dataset: Path, folder: Path) -> float:
    """Train with Ultralytics itself, with the settings the plugin gives it."""
    _import_libraries("yolo")
    from visionyard.data.dataset import Dataset
    from visionyard.models.yolo.environment import load_ultralytics
    from visionyard.models.yolo.layout import detection_layout
    from visionyard.models.yolo.plugins import YoloDetectionOptions

    started = time.perf_counter()
    version = Dataset(dataset)
    data = detection_layout(version, folder / "data")
    lines = [f"path: {data['path']}", f"train: {data['train']}", f"val: {data['val']}", "names:"]
    lines += [f"  {number}: {name}" for number, name in data["names"].items()]
    (folder / "data.yaml").write_text("\n".join(lines))
    options = YoloDetectionOptions.model_validate(_options("yolo"))
    load_ultralytics().YOLO("yolo11n.yaml").train(
        data=str(folder / "data.yaml"),
        epochs=EPOCHS["yolo"],
        batch=BATCH_SIZE,
        nbs=BATCH_SIZE,
        imgsz=SIZES["yolo"],
        lr0=0.001,
        device="cpu",
        amp=False,
        plots=False,
        project=str(folder),
        **options.settings(version.count("train"), SIZES["yolo"]),
    )
    return time.perf_counter() - started


def direct_torchvision(dataset: Path, folder: Path) -> float:
    """Train the same model by a loop as a tutorial writes it, on images in folders."""
    _import_libraries("torchvision")
    import torch
    from torch import nn
    from torchvision import datasets, models
    from torchvision.transforms import v2

    from visionyard.data.dataset import Dataset
    from visionyard.models.yolo.layout import classification_layout

    started = time.perf_counter()
    version = Dataset(dataset)
    classification_layout(version, folder / "data")
    size = SIZES["torchvision"]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    augment = v2.Compose([v2.ToImage(), v2.RandomResizedCrop(size, (0.5, 1)), v2.ColorJitter(0.2, 0.2, 0.2), *last])
    plain = v2.Compose([v2.ToImage(), v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size), *last])
    train = datasets.ImageFolder(folder / "data/train", augment)
    val = datasets.ImageFolder(folder / "data/val", plain)
    model = models.resnet18(num_classes=len(version.classes))
    optimizer = torch.optim.AdamW(model.parameters(), 0.001, weight_decay=0.0005)
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(EPOCHS["torchvision"]):
        model.train()
        for images, truth in torch.utils.data.DataLoader(train, BATCH_SIZE, shuffle=True):
            optimizer.zero_grad()
            loss = loss_function(model(images), truth)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            for images, truth in torch.utils.data.DataLoader(val, BATCH_SIZE):
                nn.functional.cross_entropy(model(images), truth)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "last.pt")
    return time.perf_counter() - started


def main() -> None:
    """Time both sides in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(SIZES))
    parser.add_argument("--dataset", type=Path, help="a dataset version of the right task")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", choices=["ours", "direct"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    runs = {"yolo": "digits-detection-1", "torchvision": "digits-classification-1"}
    dataset = (arguments.dataset or Path("runs") / runs[arguments.kind] / "dataset").absolute()
    if arguments.side:
        with tempfile.TemporaryDirectory() as folder:
            if arguments.side == "ours":
                seconds = ours(arguments.kind, dataset, Path(folder))
            else:
                direct = {"yolo": direct_yolo, "torchvision": direct_torchvision}[arguments.kind]
                seconds = direct(dataset, Path(folder))
        print(f"seconds {seconds}")
        return
    pairs = []
    for number in range(arguments.repeats):
        pair = [_timed(arguments.kind, side, dataset) for side in ("ours", "direct")]
        pairs.append(pair)
        print(f"pair {number + 1}: platform {pair[0]:.1f} s, direct {pair[1]:.1f} s, ratio {pair[0] / pair[1]:.3f}")
    medians = [statistics.median(times) for times in zip(*pairs, strict=True)]
    ratio = statistics.median(first / second for first, second in pairs)
    print("\n| training | platform s | direct s | ratio, median of pairs |\n| --- | --- | --- | --- |")
    print(f"| {arguments.kind} | {medians[0]:.1f} | {medians[1]:.1f} | {ratio:.3f} |")


def _timed(kind: str, side: str, dataset: Path) -> float:
    command = [sys.executable, __file__, kind, "--dataset", str(dataset), "--side", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.rpartition("seconds ")[2].split()[0])


if __name__ == "__main__":
    main()
