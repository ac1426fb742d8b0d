"""What tests change of the pool for Celery that is private."""


def tell_celery_after(seconds):
    """Has Celery hear that a task has begun after so many seconds, where it has not ended before."""
    from supervisor.celery import host

    host.TELL_AFTER = seconds
