"""The limit of the web: Django with one view, no middleware and no database. Needs BARE_ANSWER in the environment."""

import json
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=[])

# The answer to `GET command`, so that both write the same.
ANSWER = json.loads(os.environ["BARE_ANSWER"])


def view(_request: HttpRequest) -> HttpResponse:
    content = json.dumps(ANSWER).encode()
    # CommonMiddleware adds the length elsewhere; without it the server would send chunks.
    return HttpResponse(content, content_type="application/json", headers={"Content-Length": len(content)})


urlpatterns = [path("bare", view)]
application = get_wsgi_application()
