from celery import shared_task

from files.services import deleted_contents_remove


@shared_task
def remove_deleted_contents() -> None:
    deleted_contents_remove()
