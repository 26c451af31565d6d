"""Pages that open without network: one file with its content, styles, scripts and pictures inside."""

from visionyard.pages.page import render_page, script_json
from visionyard.pages.pictures import data_uris

__all__ = ["data_uris", "render_page", "script_json"]
