# One node of Rondo in an image of nothing but what it needs: docs/docker.md.
#   docker build -t rondo .
# Both bases can be others, for a registry of your own or for the tests (tests/containers):
#   BUILDER has Rust and a C compiler, and a C library that is not newer than the one of RUNTIME
#   RUNTIME has that C library, libgcc_s and libm; a shell is not needed
ARG BUILDER=rust:1.95-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
# Without debug information the program is a quarter of the size; the names of functions stay.
RUN CARGO_PROFILE_RELEASE_DEBUG=none cargo build --release --locked --package rondo-node --bin rondo \
    && mkdir -p /image/empty \
    && cp target/release/rondo /image/rondo

FROM ${RUNTIME}
LABEL org.opencontainers.image.title="rondo" \
      org.opencontainers.image.description="A Dynamo-style replicated key-value store" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/rondo /usr/local/bin/rondo
# A new named volume takes its owner from the directory it is mounted on.
COPY --from=build --chown=65532:65532 /image/empty /var/lib/rondo
COPY --from=build --chown=65532:65532 /image/empty /etc/rondo
# By number: Kubernetes cannot see that a name is not root's.
USER 65532:65532
ENV RONDO_DATA_DIR=/var/lib/rondo \
    RONDO_CLIENT_ADDR=0.0.0.0:7700 \
    RONDO_PEER_ADDR=0.0.0.0:7701
VOLUME /var/lib/rondo
EXPOSE 7700 7701
STOPSIGNAL SIGTERM
# Whether this node takes requests. Kubernetes asks in its own way, and whether to restart it is not this check's matter.
HEALTHCHECK --interval=5s --timeout=15s --start-period=60s --retries=3 CMD ["/usr/local/bin/rondo", "status", "--ready"]
ENTRYPOINT ["/usr/local/bin/rondo"]
CMD ["server"]
