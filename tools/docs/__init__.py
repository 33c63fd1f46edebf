"""The site of the documentation: `run.py docs` builds it from README.md and docs/ with Sphinx, and checks its links."""
