"""The app in a project with a user model of its own: another key, another name field, names of 254 characters."""

from __future__ import annotations

from tests.integration.roads import take_road


def test_the_road_of_a_report_with_another_user_model(db: None):
    take_road("custom_user")
