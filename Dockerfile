# syntax=docker/dockerfile:1

FROM rust:1.95.0-slim-bookworm AS build
# aws-lc is C; the compiler that the image brings for linking builds it.
# The toolchain of this image as it is, without the components that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
# The binary names sources by their crate, not by where they lay here.
ENV RUSTFLAGS="--remap-path-prefix=/usr/local/cargo/registry/src=crates --remap-path-prefix=/build=doorward"
WORKDIR /build

# The dependencies in a layer of their own, built around empty sources: it lasts until a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY actors/Cargo.toml actors/
COPY src/build.rs src/
RUN mkdir actors/src benches \
    && echo 'fn main() {}' | tee src/main.rs > benches/service.rs \
    && touch src/lib.rs actors/src/lib.rs \
    && cargo build --release --locked \
    && rm -r src actors/src

COPY src src
COPY actors/src actors/src
# Files keep the times they had outside, older than the empty sources: without a touch nothing would be rebuilt.
RUN find src actors/src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked

FROM debian:bookworm-slim
# A number, so that an orchestrator can see that it is not root.
RUN install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /build/target/release/doorward /usr/local/bin/doorward
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/doorward/
USER 10001:10001
ENV HOST=0.0.0.0 PORT=8000 DATA_DIR=/data
EXPOSE 8000
VOLUME /data
STOPSIGNAL SIGTERM
# Asks /health/ready of HOST and PORT; the question gives up by itself after four seconds.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["/usr/local/bin/doorward", "health"]
ENTRYPOINT ["/usr/local/bin/doorward"]
CMD ["serve"]
