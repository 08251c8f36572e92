# One image for every role: web (the default), ws, worker, beat, migrate and the sandbox services. See compose.yaml.

FROM python:3.11.14-slim-bookworm AS packages
WORKDIR /build
COPY requirements.txt .
# Wheels only, so that no stage needs a compiler; and no pip in what goes into the runtime.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --only-binary :all: --requirement requirements.txt


FROM python:3.11.14-slim-bookworm AS application
ENV PATH=/venv/bin:$PATH
WORKDIR /app
COPY --from=packages /venv /venv
COPY . .
RUN deploy/throwaway.sh python manage.py collectstatic --no-input \
    && python -m compileall -q .


FROM python:3.11.14-slim-bookworm
# A fixed id, so that volumes keep their owner from image to image; a new volume takes over the folders' owner.
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway --group gateway --mode 0750 /data/files /data/sandbox
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=gateway.settings.production \
    FILES_DIR=/data/files
WORKDIR /app
COPY --from=packages /venv /venv
COPY --from=application /app /app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthcheck.py", "/health/live"]
# Each thread keeps a connection to the database. Those who send commands at once are stored together, so more is faster.
CMD ["granian", "--interface", "wsgi", "gateway.wsgi:application", "--host", "0.0.0.0", "--port", "8000", \
     "--workers", "2", "--blocking-threads", "8", "--respawn-failed-workers", "--workers-kill-timeout", "20", \
     "--log-level", "warning"]
