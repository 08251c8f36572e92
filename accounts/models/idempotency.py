from django.db import models


class IdempotentAnswer(models.Model):
    """What a request with an `Idempotency-Key` was answered, for when it comes again (accounts.idempotency).

    `key` and `body` are HMACs: of who asked, which route and the header; and of the body, which may hold a password.
    """

    key = models.CharField(max_length=64, primary_key=True)
    body = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    content = models.TextField(blank=True)
    location = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        default_permissions = ()  # there is no door to these

    def __str__(self) -> str:
        return self.key
