# traffic-manager and traffic-agent in one image, without a shell:
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example/traffic:0.1.0 .
FROM node:24.21.0-bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends binutils gcc libc6-dev linux-libc-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY . .
RUN node esbuild.mjs --production --only=manager,agent && strip /usr/local/bin/node
# What Node names, at the paths where its loader looks, and nothing else.
RUN mkdir -p /image/app /image/etc /image/usr/local/bin && install -d -m 1777 /image/tmp \
  && cp /usr/local/bin/node /image/usr/local/bin/ \
  && cp dist/manager.cjs dist/agent.cjs dist/relay.node dist/redirect /image/app/ \
  && echo 'traffic:x:1000:1000::/:/none' > /image/etc/passwd \
  && ldd /usr/local/bin/node | grep -o '/[^ ]*' | while read -r library; do \
       mkdir -p "/image$(dirname "$library")" && cp -L "$library" "/image$library"; done

FROM scratch
COPY --from=build /image/ /
USER 1000:1000
# Nearly everything is allocated by one thread; an arena for each of the others would only hold memory that nobody uses.
ENV MALLOC_ARENA_MAX=1
# Left alone, the heap doubles before anybody looks at it, and a young generation of the default size is never given back: an
# agent lives in other people's pods, and three hundred clients that come back at once must not bring the manager to its limit.
ENTRYPOINT ["/usr/local/bin/node", "--heap-growing-percent=20", "--max-semi-space-size=2"]
CMD ["/app/manager.cjs"]
