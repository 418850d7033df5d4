/**
 * An example consumer: an HTTP endpoint that SNS posts to. It confirms the subscription itself, and accepts only
 * requests that SNS signed for one of its topics.
 *
 *     TOPICS=arn:aws:sns:eu-west-1:123456789012:user_presence_updated PORT=8080 node consumer-endpoint.ts
 *     aws sns subscribe --topic-arn arn:aws:sns:… --protocol https --notification-endpoint https://chat.example.org/sns
 *
 * Leave raw delivery off: raw deliveries have no signature. Put HTTPS in front.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type Parsed, snsVerifier, type VerifierOptions } from 'xmpp-event-pusher/consumer';

/** More than the largest message with its envelope. */
const MAX_BYTES = 2 * 1_024 * 1_024;

interface Parts extends VerifierOptions {
  /** Your code. If it throws, SNS posts again. SNS waits 15 seconds; put longer work into a queue. */
  handle(notification: Parsed): Promise<void>;
}

export function createEndpoint({ handle, ...options }: Parts): Server {
  const verify = snsVerifier(options);
  const respond = async (request: IncomingMessage): Promise<number> => {
    const body = await read(request);
    if (!body) return 413;
    const verified = await verify({ headers: request.headers, body });
    if (verified.kind === 'refused') process.stderr.write(`refused: ${verified.reason}\n`);
    if (verified.kind === 'notification') for (const notification of verified.notifications) await handle(notification);
    return verified.status;
  };
  return createServer((request, response) => {
    respond(request).then(
      (status) => response.writeHead(status).end(),
      (error: Error) => {
        process.stderr.write(`comes again: ${error.message}\n`);
        response.writeHead(500).end();
      },
    );
  });
}

/** Returns the body, unless it is too large. */
async function read(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

if (import.meta.main) {
  const { TOPICS = '', PORT = '8080' } = process.env;
  const endpoint = createEndpoint({
    topics: TOPICS.split(','),
    async handle(notification) {
      process.stdout.write(`${JSON.stringify(notification.delivery)}\n`);
    },
  });
  endpoint.listen(Number(PORT));
}
