"""An app with a user model of its own: people are known by their e-mail address, and numbered by UUIDs."""
