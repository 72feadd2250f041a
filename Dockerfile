# syntax=docker/dockerfile:1
# The operator's image: one binary with its libraries, certificates of authorities, and a user without rights. What it holds is
# chosen by hack/release-image, which makes the same image without a container engine.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# The same source and the same base image make the same layer; for the same digest, build with SOURCE_DATE_EPOCH=0 and
# --output type=image,rewrite-timestamp=true.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
ENV CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0 \
    RUSTFLAGS="--remap-path-prefix=/src=. --remap-path-prefix=/usr/local/cargo=cargo"
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin stagekeeper \
    && hack/release-image rootfs target/release/stagekeeper /rootfs

FROM scratch
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="stagekeeper" \
      org.opencontainers.image.description="Continuous delivery for Kubernetes that remembers" \
      org.opencontainers.image.source="https://github.com/stagekeeper/stagekeeper" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /rootfs /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/stagekeeper"]
