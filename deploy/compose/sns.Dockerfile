# SNS and SQS in one process, for the demo only: it loses everything when it stops.
FROM node:26-alpine
WORKDIR /app
RUN npm install --omit=dev --ignore-scripts fauxqs@2.4.1
COPY init.json subscriber.js ./
ENV FAUXQS_INIT=/app/init.json FAUXQS_DEFAULT_REGION=eu-west-1 FAUXQS_LOGGER=false
USER 10001:10001
EXPOSE 4566
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:4566/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "/app/node_modules/fauxqs/dist/cli.js"]
