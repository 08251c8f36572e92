from django.urls import path

from files.api import views

urlpatterns = [
    path("files/<uuid:file_id>", views.FileView.as_view(), name="file"),
    path("files/<uuid:file_id>/content", views.FileContentView.as_view(), name="file-content"),
]
