"""The app in a project whose settings are allowed and rare; docs/supported.md lists them."""

from __future__ import annotations

from tests.integration.roads import take_road


def test_the_road_of_a_report_with_unusual_settings(db: None):
    take_road("unusual")
