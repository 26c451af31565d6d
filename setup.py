"""Ship components/ and pipelines/ as parts of the package visionyard; the rest stands in pyproject.toml."""

from setuptools import find_packages, setup

rooms = ("components", "pipelines")
setup(
    packages=find_packages(include=["visionyard*"])
    + [f"visionyard.{room}" for room in rooms]
    + [f"visionyard.{room}.{name}" for room in rooms for name in find_packages(room)],
    package_dir={"": ".", **{f"visionyard.{room}": room for room in rooms}},
    package_data={
        "": ["*.html", "*.css", "*.js", "*.yaml", "README.md", "py.typed"],
        "visionyard.cluster": ["profiles/*.yaml"],
    },
)
