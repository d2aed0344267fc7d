# The command line as an image: no compiler, no pip, and no root in it.
#
#     docker build -t logprobs .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/jobs" -e OPENAI_API_KEY logprobs run nightly.toml
#
# Job file, prompts, cache and store lie in the folder that is mounted. `make image` builds it, and runs the demo in it.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc python3 python3-venv
COPY . /source
# From a wheel that is built here, with its scanner compiled for the machine that the image is for.
RUN python3 -m venv /opt/logprobs \
    && LOGPROB_STORE_COMPILE=required /opt/logprobs/bin/pip wheel --no-deps -w /wheel /source \
    && /opt/logprobs/bin/pip install --no-cache-dir -c /source/constraints.txt /wheel/*.whl \
    && /opt/logprobs/bin/pip uninstall -y pip

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 logprobs \
    && ln -s /opt/logprobs/bin/logprobs /usr/local/bin/
COPY --from=build /opt/logprobs /opt/logprobs
USER logprobs
WORKDIR /jobs
ENTRYPOINT ["logprobs"]
CMD ["--help"]
