# Debian's Prosody with the adapter. Build from the repository's root.
FROM debian:13-slim
RUN apt-get update && apt-get install -y --no-install-recommends prosody lua-unbound && rm -rf /var/lib/apt/lists/*
COPY adapters/prosody/mod_event_pusher /usr/local/lib/prosody/modules/mod_event_pusher
COPY deploy/compose/prosody.cfg.lua /etc/prosody/prosody.cfg.lua
RUN prosodyctl register alice localhost alice && prosodyctl register bob localhost bob
VOLUME /var/lib/prosody
USER prosody
EXPOSE 5222
CMD ["prosody", "-F"]
