# docker build -t cryovox . && docker run --rm --gpus all -v "$PWD:/data" cryovox find TS_01.mrc --out found
FROM python:3.12-slim-bookworm
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/cryovox
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# the versions of the package are ranges that its tests cover
# hadolint ignore=DL3013
RUN pip install ".[cluster,hdf5,tiff]" && useradd --create-home --uid 1000 cryovox
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["cryovox"]
