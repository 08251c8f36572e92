#!/bin/sh
# Runs a command with production settings that load, and reach nothing: for steps that need no more than that.
#   deploy/throwaway.sh python manage.py check --deploy
set -eu
export DJANGO_SETTINGS_MODULE=gateway.settings.production
export SECRET_KEY=protects-nothing-0123456789-abcdefghijklmnopqrstuvwxyz
export ALLOWED_HOSTS=nowhere.invalid
export DATABASE_URL=postgres://nowhere.invalid/none
export REDIS_URL=redis://nowhere.invalid
export EMAIL_URL=smtp://nowhere.invalid
export CALLBACK_BASE_URL=http://nowhere.invalid
export SEGMENTATION_URLS=http://nowhere.invalid
export RUNNER_URLS=http://nowhere.invalid
export ARCHIVE_URLS=http://nowhere.invalid
export FILES_DIR=/nonexistent
exec "$@"
