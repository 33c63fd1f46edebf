"""The tags of this app's admin templates."""
