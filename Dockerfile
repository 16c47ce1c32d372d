# docker build -t fer_jax . && docker run --rm -v "$PWD/work:/fer_jax/work" fer_jax make demo
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
       build-essential chromium git libfribidi0 libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /fer_jax
COPY requirements*.txt Makefile ./
RUN make .venv/dev .venv-beam/done .venv-docs/done
COPY . .
RUN touch .venv/run .venv/dev .venv-beam/done .venv-docs/done && make setup
CMD ["bash", ".ci/run"]
