/** Compresses what the admin address answers: a page is opened over slow lines too, at night, from a phone. */
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';
import type { FastifyInstance, FastifyRequest } from 'fastify';

/** What fits into one packet is not worth it. */
const LEAST_BYTES = 1_400;
/** Fast, for answers are made anew each time. */
const FAST = { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } };

const compressors = {
  br: (text: string) => promisify(brotliCompress)(text, FAST),
  gzip: (text: string) => promisify(gzip)(text),
};

/** The best encoding that a client takes; undefined: none (https://www.rfc-editor.org/rfc/rfc9110#field.accept-encoding). */
export function accepts({ headers }: Pick<FastifyRequest, 'headers'>): 'br' | 'gzip' | undefined {
  const listed = String(headers['accept-encoding'] ?? '')
    .toLowerCase()
    .split(',')
    .map((each) => each.split(';').map((part) => part.trim()));
  const takes = (name: string) =>
    listed.some(([coding, quality]) => coding === name && !/^q=0(\.0*)?$/.test(quality ?? ''));
  if (takes('br')) return 'br';
  return takes('gzip') ? 'gzip' : undefined;
}

/** Compresses every text that is answered, where the client takes that. Streams are left alone: they are read as they come. */
export function compressAnswers(server: FastifyInstance): void {
  server.addHook('onSend', async (request, reply, payload) => {
    if (typeof payload !== 'string' || payload.length < LEAST_BYTES || reply.hasHeader('content-encoding'))
      return payload;
    reply.header('vary', 'accept-encoding');
    const encoding = accepts(request);
    if (!encoding) return payload;
    const compressed = await compressors[encoding](payload);
    reply.header('content-encoding', encoding).removeHeader('content-length');
    return compressed;
  });
}
