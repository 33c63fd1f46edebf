"""The demo's code location: the demo's reports, made by runs that its sensors launch."""
