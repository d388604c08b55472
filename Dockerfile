# docker build -t cryovox . && docker run --rm --gpus all -v "$PWD:/data" cryovox find TS_01.mrc --out found
FROM python:3.12-slim-bookworm
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/cryovox
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install ".[cluster,hdf5,tiff]" && useradd --create-home cryovox
USER cryovox
WORKDIR /data
ENTRYPOINT ["cryovox"]
