"""Import schedules from django-celery-beat: its tables, beat's rules, and the schedules that its tasks become.

Neither celery nor django-celery-beat is imported: their tables are read by SQL, and their rules are implemented here,
as of celery 5.7 and django-celery-beat 2.9.
"""
