"""What django-celery-beat keeps in its tables, what its beat makes of that, and the schedules it becomes here.

Neither celery nor django-celery-beat is imported: their tables are read by SQL, and their rules are written down
here, as of celery 5.7 and django-celery-beat 2.9.
"""
