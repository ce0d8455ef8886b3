# The images of our services, one target each: gateway, contact-worker, deployer. `ci/build-image` builds them with their
# version; docs/images.md says what is in them and how they are checked.

# The version is that of rust-toolchain.toml, which stays outside: it would have clippy and rustfmt downloaded.
ARG RUST_IMAGE=docker.io/library/rust:1.95.0-slim-trixie@sha256:e14e87345b4d5964ddcc3491d27ee046a0f23820f340c3c1e24da6880141f7c0
ARG BUILD_VERSION=v0-0000000
ARG BUILD_COMMIT=unknown

FROM ${RUST_IMAGE} AS tools
RUN cargo install --locked cargo-chef@0.1.78 cargo-cyclonedx@0.5.9
WORKDIR /src

# What is to be downloaded and compiled, without our code: it stays the same until a Cargo.toml or Cargo.lock changes.
FROM tools AS recipe
COPY . .
RUN cargo chef prepare

# The layer that is worth keeping: all dependencies, compiled. For each service by itself, as it is built below: together,
# one would be given features that only another asks for.
FROM tools AS dependencies
COPY --from=recipe /src/recipe.json .
RUN cargo chef cook --locked --release --package gateway \
  && cargo chef cook --locked --release --package contact-worker \
  && cargo chef cook --locked --release --package deployer \
  && cargo fetch --locked
# From here on nothing is downloaded.
ENV CARGO_NET_OFFLINE=true

FROM dependencies AS source
COPY . .
# Static: the image needs no libraries. glibc has answered names without plugins since 2.34, from /etc/hosts and DNS. The
# other flag stores relocations in a tenth of the space; the program itself reads them, so no loader has to know them.
ENV STATIC="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"

# The version is compiled into the program. Not every builder hands a stage's ARG down to the next.
FROM source AS build-contact-worker
ARG BUILD_VERSION
RUN cargo rustc --locked --release --package contact-worker -- $STATIC

FROM source AS build-deployer
ARG BUILD_VERSION
RUN cargo rustc --locked --release --package deployer -- $STATIC

FROM source AS build-gateway
ARG BUILD_VERSION
RUN cargo rustc --locked --release --package gateway -- $STATIC

FROM source AS sbom
RUN ci/sbom --folder /sbom

# What scanners and lawyers look for: which Debian the linked glibc is from, and the licences.
FROM tools AS debian
WORKDIR /debian
RUN mkdir -p etc var/lib/dpkg/status.d \
  && cp -L /etc/debian_version /etc/os-release etc \
  && for package in ca-certificates libc6; do \
    dpkg-query --status "$package" >"var/lib/dpkg/status.d/$package" \
    && mkdir -p "usr/share/doc/$package" \
    && cp "/usr/share/doc/$package/copyright" "usr/share/doc/$package" \
    || exit 1; \
  done

# What all images have. Nothing in it can be started, and root owns everything.
FROM scratch AS base
COPY --from=debian /debian /
COPY --from=tools /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY LICENSE /usr/share/doc/portfolio/
# By number: Kubernetes cannot tell from a name whether it is root. Nobody has this one.
USER 65532:65532
ARG BUILD_VERSION
ARG BUILD_COMMIT
LABEL org.opencontainers.image.version="$BUILD_VERSION" \
  org.opencontainers.image.revision="$BUILD_COMMIT" \
  org.opencontainers.image.licenses="MIT"

FROM base AS contact-worker
LABEL org.opencontainers.image.title="contact-worker" \
  org.opencontainers.image.description="Persists the contacts of the bus in MongoDB, each exactly once"
COPY --from=sbom /sbom/contact-worker.cdx.json /usr/share/sbom/
COPY --from=build-contact-worker /src/target/release/contact-worker /usr/local/bin/
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/contact-worker"]

FROM base AS deployer
LABEL org.opencontainers.image.title="deployer" \
  org.opencontainers.image.description="Rolls builds out to Kubernetes Deployments, and reports a verdict that is true"
COPY --from=sbom /sbom/deployer.cdx.json /usr/share/sbom/
COPY --from=build-deployer /src/target/release/deployer /usr/local/bin/
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/deployer"]

# What the strategy gitops needs beside it: git, ssh, the shell between them, and their libraries.
FROM tools AS git
# Debian keeps no older versions, so that one that is named would be gone one day.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends git openssh-client \
  && mkdir -p /git/var/lib/dpkg/status.d /git/usr/share/doc /git/etc \
  && ln -s usr/bin usr/lib usr/lib64 /git \
  && echo 'deployer:x:65532:65532::/:/usr/sbin/nologin' >/git/etc/passwd \
  && ldd /usr/bin/git /usr/bin/ssh /usr/bin/sh >/tmp/libraries \
  && for file in /usr/bin/git /usr/bin/ssh /usr/bin/sh $(grep -o '/[^ ]*[^: ]' /tmp/libraries); do \
    case $file in /usr/*) ;; *) file=/usr$file ;; esac \
    && cp --parents --no-dereference "$file" /git \
    && real=$(readlink -f "$file") && case $real in /usr/*) ;; *) real=/usr$real ;; esac \
    && cp --parents "$real" /git && package=$(dpkg-query --search "$real") \
    && package=${package%%:*} && dpkg-query --status "$package" >"/git/var/lib/dpkg/status.d/$package" \
    && mkdir -p "/git/usr/share/doc/$package" \
    && cp "/usr/share/doc/$package/copyright" "/git/usr/share/doc/$package" \
    || exit 1; \
  done

# The deployer for targets with `gitops`. ssh wants to know who it is.
FROM deployer AS deployer-git
LABEL org.opencontainers.image.title="deployer-git" \
  org.opencontainers.image.description="The deployer, with git and ssh"
COPY --from=git /git /

FROM base AS gateway
LABEL org.opencontainers.image.title="gateway" \
  org.opencontainers.image.description="The HTTP edge: takes contacts and builds, and tells what became of them"
COPY --from=sbom /sbom/gateway.cdx.json /usr/share/sbom/
COPY --from=build-gateway /src/target/release/gateway /usr/local/bin/
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/gateway"]
