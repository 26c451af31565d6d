"""Acceptance on a real table: the penguins, without the island, which nearly tells the species, and the year."""

from collections.abc import Callable
from pathlib import Path

from visionyard.data.split import Splitting
from visionyard.data.tables import TableDataset, ingest_table, prepare_table
from visionyard.inference import Predictor
from visionyard.training import load_trained_model
from visionyard.training.validate import validate_model
from visionyard.transforms import Classification


def test_the_penguins(shared_data: Callable[[str], Path], train_table: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "penguins.csv").write_bytes((shared_data("palmerpenguins") / "penguins.csv").read_bytes())
    (source / "schema.yaml").write_text("target: species\nignore: [island, year]\n")
    ingest_table(source, tmp_path / "sources")
    prepare_table(tmp_path / "sources", tmp_path / "dataset", Splitting("group", 0.15, 0.2, 0))
    assert len(TableDataset(tmp_path / "dataset").schema.features) == 5
    checkpoint = train_table(tmp_path / "dataset", tmp_path, epochs=30)
    report = validate_model(
        checkpoint, tmp_path / "dataset", tmp_path / "evaluation", confidence_threshold=0.25, iou_threshold=0.5
    )
    assert report.image_count == 69
    # Logistic regression gets all 69 right, gradient boosting one less.
    assert report.right_count >= 66
    predictor = Predictor.from_model(load_trained_model(checkpoint)[0])
    bill = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750, "sex": "male"}
    large = {"bill_length_mm": "50", "bill_depth_mm": 15.2, "flipper_length_mm": 218, "body_mass_g": 5700, "sex": None}
    found = predictor.predict([bill, large])
    assert [predictor.classes[one.class_id] for one in found if isinstance(one, Classification)] == ["Adelie", "Gentoo"]
