# Serves a run folder, as a user who is not root:
#
#   docker build -t forethought .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/first:/runs/first:ro" forethought /runs/first
#
# Inside, the service listens on all addresses, because only so can the port be published. Who reaches it is decided
# outside: publish it on 127.0.0.1 as above, or set FORETHOUGHT_API_KEY before you let other machines in.
FROM python:3.12-slim

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src src
# PyTorch for CPUs alone: with CUDA the image would be several times as large
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[serve]"
RUN useradd --create-home --uid 10001 forethought && install --directory --owner=forethought /state

USER forethought
ENV OMP_WAIT_POLICY=PASSIVE
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=3)"]
ENTRYPOINT ["forethought", "serve", "--host", "0.0.0.0", "--port", "8000", "--state", "/state"]
CMD ["/runs/run"]
