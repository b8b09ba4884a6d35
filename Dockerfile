# The image of web, worker and beat; compose.yaml shows how they run. PostgreSQL and the broker are other containers.
FROM python:3.13-slim AS packages
COPY requirements.lock requirements-uv.lock /
RUN python -m venv /venv \
    && pip install --no-cache-dir --require-hashes -r /requirements-uv.lock \
    && uv pip install --no-cache --python /venv --compile-bytecode --require-hashes --no-deps -r /requirements.lock

FROM python:3.13-slim
RUN useradd --system --create-home kilotoken
COPY --from=packages /venv /venv
COPY . /srv/kilotoken
WORKDIR /srv/kilotoken
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 KILOTOKEN_DATA=/srv/data
RUN python manage.py collectstatic --no-input --verbosity 0 && chown -R kilotoken /srv/data
USER kilotoken
ENV KILOTOKEN_ENVIRONMENT=production
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", \
     "--blocking-threads", "4", "--respawn-failed-workers", "--no-ws", "--log-level", "warning", "config.wsgi:application"]
