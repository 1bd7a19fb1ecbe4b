# mien serve on the CPU: docker build -t mien . && docker run --rm -p 8000:8000 -e MIEN_TOKEN=secret --read-only --tmpfs /tmp mien
# Any image with Python 3.11 or newer and venv: docker build --build-arg BASE=…
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
COPY pyproject.toml README.md LICENSE NOTICE /source/
COPY recipes /source/recipes
COPY src /source/src
RUN python3 -m venv /opt/mien \
 && /opt/mien/bin/pip install --no-cache-dir --no-compile '/source[serve]' \
 && /opt/mien/bin/pip uninstall --yes pip \
 && find /opt/mien -name tests -type d -prune -exec rm -rf {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="mien" \
      org.opencontainers.image.description="Facial expression recognition server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/mien /opt/mien
ENV PATH=/opt/mien/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp NO_COLOR=1
# A number, so that Kubernetes can check that the user is not root.
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["mien"]
CMD ["serve", "--host", "0.0.0.0"]
