-- Run once, when PostgreSQL of deploy/compose.yaml makes its data: a database for Dagster beside that of the web app.
CREATE DATABASE dagster;
