"""Reports: a page for one run, a page that compares two."""

from __future__ import annotations

from samed2.evaluate.report.compare_page import write_comparison
from samed2.evaluate.report.page import REPORT, write_report

__all__ = ["REPORT", "write_comparison", "write_report"]
