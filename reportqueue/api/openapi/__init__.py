"""The API's description in OpenAPI 3.1: an `Operation` for each call. drf-spectacular writes `openapi.json` from them.

The app serves the file and needs no drf-spectacular. `inspector` and `writer` alone import it.
"""
