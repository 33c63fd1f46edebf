"""The API's description in OpenAPI 3.1: one `Operation` for each call, from which drf-spectacular writes `openapi.json`.

The app serves the file and needs no drf-spectacular. `inspector` and `writer` alone import it.
"""
