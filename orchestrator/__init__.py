"""The Dagster side of reportqueue: sensors that launch exactly one run for each claimed row, and the code around it.

Public: `client.ReportQueueClient`, `resources.ReportQueueResource`, `execution.run_report`, `jobs.build_report_job`,
`sensors.queue_sensor.build_queue_sensor`; and for dagster.yaml `launcher.WarmRunLauncher`,
`coordinator.WarmRunCoordinator`. It talks HTTP to the queue and imports nothing of Django.
"""
