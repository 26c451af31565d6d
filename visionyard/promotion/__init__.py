"""Whether a new model takes the place of the champion: judged, approved, written down."""

from visionyard.promotion.approval import Approval, approve, find_approval
from visionyard.promotion.judge import ClassChange, Gates, Judgement, judge
from visionyard.promotion.promote import promote_model
from visionyard.promotion.verdict import VERDICT, read_verdict
from visionyard.promotion.watermark import NewData, find_new_data, move_watermark

__all__ = [
    "VERDICT",
    "Approval",
    "ClassChange",
    "Gates",
    "Judgement",
    "NewData",
    "approve",
    "find_approval",
    "find_new_data",
    "judge",
    "move_watermark",
    "promote_model",
    "read_verdict",
]
