# One image for runs, for parts of runs on Kubernetes, and for workers.
#
#   docker build --tag registry.example/gram-r2:gpu .
#   docker build --tag gram-r2:cpu --build-arg EXTRA=cpu .
#   docker run --rm --gpus all --shm-size 16g --volume "$PWD/work:/work" --workdir /work --volume "$PWD/cache:/cache" \
#     --volume "$PWD/runs:/opt/gram-r2/runs" --volume "$PWD/prefect:/opt/gram-r2/.prefect" registry.example/gram-r2:gpu gram-r2 …
#
# /work is for recipes of one's own and their runs. Runs of built-in recipes are in /opt/gram-r2/runs, the local server's history in
# /opt/gram-r2/.prefect, models of the hub in /cache: what is not mounted ends with the container. The folders must be writable by
# uid 1000.
FROM debian:bookworm-slim

# gpu or cpu: which build of vLLM; and further extras of pyproject.toml, such as kernels for FlashAttention.
ARG EXTRA=gpu
ARG EXTRAS=s3,kubernetes

# The compiler and Python's headers: Triton and torch.compile build kernels while a model runs. Without tini as the first
# process, engines that end would stay as zombies.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates g++ libnuma1 make python3-pip python3.11-dev python3.11-venv tini util-linux \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --create-home gram && install --directory --owner=gram --group=gram /opt/gram-r2 /cache

# What the packages depend on, in a layer that outlives changes of the code.
WORKDIR /opt/gram-r2
COPY Makefile pyproject.toml README.md LICENSE ./
RUN PIP_NO_CACHE_DIR=1 make setup VENV=/opt/venv EXTRA="$EXTRA" EXTRAS="$EXTRA,$EXTRAS"
COPY --chown=gram:gram . .

# GRAM_R2_HOME is the checkout of a worker; copies of a store at a URL, and models of the hub, go to the volume /cache.
ENV PATH=/opt/venv/bin:$PATH \
    GRAM_R2_HOME=/opt/gram-r2 \
    GRAM_R2_CACHE=/cache \
    HF_HOME=/cache/huggingface \
    PYTHONUNBUFFERED=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1

# By number, so that Kubernetes can tell that it is not root.
USER 1000
ENTRYPOINT ["tini", "--"]
CMD ["gram-r2", "--help"]
