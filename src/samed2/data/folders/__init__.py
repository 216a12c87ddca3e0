"""Folders of images and labels as people have them: their layout, what their labels mean, and a file that says so."""

from __future__ import annotations

from samed2.data.folders.description import Description, described_cases, read_description, write_description
from samed2.data.folders.recognise import Found, recognise

__all__ = ["Description", "Found", "described_cases", "read_description", "recognise", "write_description"]
